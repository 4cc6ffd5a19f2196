"""Teaching a student what a larger model knows: its softened answers, and where it looks.

Soft targets: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015). Both sets of logits are
divided by a temperature T, so that the small probabilities of wrong classes, which say what resembles what, count; the
Kullback-Leibler divergence between the two is multiplied by T squared, or its gradients would shrink with it.

Features: Zagoruyko, Komodakis, "Paying More Attention to Attention" (2017). The mean square over channels says where
in time and space a feature map is strong. It has no channels, so a pruned student is compared with its teacher
directly, without layers in between that would have to be learnt, kept and resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeact.errors import ModelError, UsageError
from edgeact.export.models.checkpoint import state_sha256

__all__ = ["Distillation", "Lesson", "Teacher", "feature_layer"]


@dataclass(frozen=True)
class Distillation:
    """How much of a teacher goes into the loss."""

    temperature: float = 4.0
    """Both models' logits are divided by it; 1 leaves them as they are."""
    weight: float = 0.7
    """Share of the soft loss within [0, 1]; the rest is the loss against the labels."""
    feature_weight: float = 0.0
    """Times the distance, 0 to 2, of the normalised maps of the last features; added."""

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 <= self.weight <= 1 and self.feature_weight >= 0):
            raise UsageError(
                "expected a temperature above 0, a weight of the soft loss within [0, 1] and a weight of the features "
                f"from 0, got {self.temperature:g}, {self.weight:g}, {self.feature_weight:g}"
            )


@dataclass(frozen=True)
class Teacher:
    """A trained model to learn from; while it teaches it lies on the student's device, in evaluation mode."""

    module: nn.Module
    distillation: Distillation = Distillation()

    @property
    def digest(self) -> str:
        """Tells whether two teachers teach the same."""
        described = (state_sha256(self.module), sorted(asdict(self.distillation).items()))
        return hashlib.sha256(repr(described).encode()).hexdigest()


class Lesson:
    """A student beside its teacher: takes the loss against the labels, gives the loss to learn by.

    Listens to the student's feature map until `close`.
    """

    def __init__(self, student: nn.Module, teacher: Teacher, autocast: torch.autocast, clips: Tensor) -> None:
        """`clips` are any that the student takes; the teacher computes under `autocast`."""
        self._teacher = teacher.module.eval()
        self._terms = teacher.distillation
        self._autocast = autocast
        self._maps: dict[nn.Module, Tensor] = {}
        self._close: list[Callable[[], None]] = []
        if self._terms.feature_weight:
            name = feature_layer(self._teacher, clips)
            for module in (student, self._teacher):
                try:
                    layer = module.get_submodule(name)
                except AttributeError as error:
                    raise ModelError(
                        f"the student has no layer '{name}' as its teacher has; leave features out"
                    ) from error
                self._close.append(layer.register_forward_hook(self._keep(module)).remove)

    def loss(self, hard: Tensor, student: nn.Module, clips: Tensor, logits: Tensor) -> Tensor:
        """`hard` is the loss against the labels, `logits` float32 `(N, classes)` what `student` made of `clips`."""
        with torch.no_grad(), self._autocast:
            taught = self._teacher(clips)
        taught = taught.float()
        if taught.shape != logits.shape:
            raise ModelError(f"expected a teacher of {logits.shape[1]} classes, got one of {taught.shape[1]}")
        terms = self._terms
        loss = (1 - terms.weight) * hard + terms.weight * _soft_loss(logits, taught, terms.temperature)
        if terms.feature_weight:
            loss = loss + terms.feature_weight * _map_distance(self._maps[student], self._maps[self._teacher])
        self._maps.clear()
        return loss

    def close(self) -> None:
        """Take the hooks away."""
        for remove in self._close:
            remove()

    def _keep(self, owner: nn.Module) -> Callable[[nn.Module, object, Tensor], None]:
        def keep(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
            self._maps[owner] = output

        return keep


def feature_layer(module: nn.Module, clips: Tensor) -> str:
    """Name of the layer that gives the last feature map `(N, C, T, H, W)` of more than one position.

    ModelError where none does.
    """
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_layer: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 5 and output[0, 0].numel() > 1:
                found.append(name)

        return hook

    handles = [layer.register_forward_hook(look(name)) for name, layer in module.named_modules() if name]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(clips)
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    if not found:
        raise ModelError("no layer of the teacher gives a feature map (N, C, T, H, W) of more than one position")
    return found[-1]


def _soft_loss(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    student, teacher = (functional.log_softmax(each / temperature, dim=1) for each in (logits, taught))
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def _map_distance(student: Tensor, teacher: Tensor) -> Tensor:
    ours, theirs = (functional.normalize(each.float().square().mean(1).flatten(1)) for each in (student, teacher))
    return (ours - theirs).square().sum(1).mean()
