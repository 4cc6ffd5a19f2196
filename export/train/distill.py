"""Knowledge distillation: soft targets of a teacher, and attention transfer of its last feature map.

Soft targets: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2. The logits of
student and teacher are divided by a temperature T, which raises the probabilities of wrong classes, and with them what
the student learns of the similarity of classes. The Kullback-Leibler divergence is multiplied by T squared, so that
its gradients keep their magnitude.

Attention transfer: Zagoruyko, Komodakis, "Paying More Attention to Attention" (2017), section 3.1. The mean square over
channels shows how strong an activation is at each position in time and space. The map has no channels, so a pruned
student is compared with its teacher directly, without an adapter layer to train, store and resume.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeact.errors import ModelError, UsageError
from edgeact.export.models.checkpoint import state_sha256
from edgeact.export.models.hooks import capture_outputs, evaluated, forward_hooks

__all__ = ["Distillation", "DistillationLoss", "Teacher", "distillation_loss", "feature_layer"]


@dataclass(frozen=True)
class Distillation:
    """Weights of the teacher's terms in the loss."""

    temperature: float = 4.0
    """Divisor of the logits of student and teacher; 1 leaves the probabilities unchanged."""
    weight: float = 0.7
    """Weight of the soft-target loss within [0, 1]; the cross entropy with the labels has the rest."""
    feature_weight: float = 0.0
    """Weight of the attention-transfer loss, which lies within [0, 2]; added to the other two."""

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 <= self.weight <= 1 and self.feature_weight >= 0):
            raise UsageError(
                "distillation: expected a temperature above 0, a soft-loss weight within [0, 1] and a feature weight "
                f"of at least 0, got {self.temperature:g}, {self.weight:g} and {self.feature_weight:g}"
            )


@dataclass(frozen=True)
class Teacher:
    """A trained model to distill from; during training the module is on the student's device, in evaluation mode."""

    module: nn.Module
    distillation: Distillation = Distillation()

    @property
    def digest(self) -> str:
        """SHA-256 of the weights and the distillation settings."""
        described = (state_sha256(self.module), sorted(asdict(self.distillation).items()))
        return hashlib.sha256(repr(described).encode()).hexdigest()


_TakeMaps = Callable[[], tuple[Tensor, Tensor]]
"""Returns the feature maps of student and teacher and releases them: the student's holds its autograd graph."""


class DistillationLoss:
    """Loss of a student beside its teacher; see `distillation_loss`."""

    def __init__(self, teacher: Teacher, autocast: torch.autocast, take_maps: _TakeMaps | None) -> None:
        self._teacher = teacher
        self._autocast = autocast
        self._take_maps = take_maps

    def __call__(self, hard_loss: Tensor, clips: Tensor, logits: Tensor) -> Tensor:
        """Return the weighted sum of `hard_loss`, the loss with the labels, and the teacher's terms, a scalar.

        `logits` are the student's for `clips`, float32 `(N, classes)`, of the latest forward pass. Raises ModelError if
        the teacher has another number of classes.
        """
        with torch.no_grad(), self._autocast:
            teacher_logits = self._teacher.module(clips)
        teacher_logits = teacher_logits.float()
        if teacher_logits.shape != logits.shape:
            raise ModelError(
                f"distillation: expected a teacher of {logits.shape[1]} classes as the student has, got one of "
                f"{teacher_logits.shape[1]}; distill from a model of the same labels"
            )
        terms = self._teacher.distillation
        soft_loss = _soft_target_loss(logits, teacher_logits, terms.temperature)
        loss = (1 - terms.weight) * hard_loss + terms.weight * soft_loss
        if self._take_maps:
            loss = loss + terms.feature_weight * _attention_transfer_loss(*self._take_maps())
        return loss


@contextlib.contextmanager
def distillation_loss(
    student: nn.Module, teacher: Teacher, autocast: torch.autocast, clips: Tensor
) -> Iterator[DistillationLoss]:
    """Yield the loss of `student` beside `teacher`, whose forward passes run under `autocast`.

    Hooks capture the last feature map of both until exit if the feature weight is above 0. `clips` `(N, 3, T, H, W)` on
    the teacher's device are run to find its layer. Raises ModelError if either model has no such layer.
    """
    teacher.module.eval()
    if not teacher.distillation.feature_weight:
        yield DistillationLoss(teacher, autocast, None)
        return
    layer = feature_layer(teacher.module, clips)
    with contextlib.ExitStack() as stack:
        try:
            student_maps = stack.enter_context(capture_outputs(student, [layer]))
        except AttributeError as error:
            raise ModelError(
                f"distillation: the student has no layer '{layer}', whose output in the teacher is the last feature "
                "map; distill without features"
            ) from error
        teacher_maps = stack.enter_context(capture_outputs(teacher.module, [layer]))
        yield DistillationLoss(teacher, autocast, lambda: (student_maps.pop(layer), teacher_maps.pop(layer)))


def feature_layer(module: nn.Module, clips: Tensor) -> str:
    """Return the name of the layer with the last output `(N, C, T, H, W)` of more than one position.

    Runs `clips` through `module` in evaluation mode. Raises ModelError if there is no such layer.
    """
    names: list[str] = []

    def record(name: str, _layer: nn.Module, _inputs: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 5 and output[0, 0].numel() > 1:
            names.append(name)

    layers = {name: layer for name, layer in module.named_modules() if name}
    with evaluated(module), torch.no_grad(), forward_hooks(layers, record):
        module(clips)
    if not names:
        raise ModelError(
            "distillation: no layer of the teacher has an output (N, C, T, H, W) of more than one position; distill "
            "without features"
        )
    return names[-1]


def _soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    student, teacher = (functional.log_softmax(x / temperature, dim=1) for x in (student_logits, teacher_logits))
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def _attention_transfer_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    student, teacher = (functional.normalize(x.float().square().mean(1).flatten(1)) for x in (student_map, teacher_map))
    return (student - teacher).square().sum(1).mean()
