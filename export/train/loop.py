"""The training loop: AdamW, bfloat16 if the hardware has it, resumable after every epoch.

On a CPU the outcome depends on plan, data, module and number of threads alone, interrupted or not.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from edgeact.errors import WeightsError
from edgeact.export.train.autocast import bfloat16_autocast, device_of
from edgeact.export.train.batches import EpochDraws, center_crop_batches, training_batches
from edgeact.export.train.distill import DistillationLoss, Teacher, distillation_loss
from edgeact.export.train.frame_cache import PreparedVideos
from edgeact.export.train.plan import EpochResult, TrainingVideos, TrainPlan
from edgeact.export.train.qat import FakeQuant
from edgeact.export.train.schedule import warmup_cosine
from edgeact.export.train.training_state import StateFile, training_fingerprint
from edgeact.progress import Callbacks

__all__ = ["Method", "fit", "predict_labels"]

_MAX_GRADIENT_NORM = 5.0


@dataclass(frozen=True)
class Method:
    """Distillation and fake quantization of a training, besides the cross entropy with the labels."""

    teacher: Teacher | None = None
    """Distill from this model: the loss is that of `distillation_loss`."""
    fake_quant: FakeQuant | None = None
    """The fake quantization that is active on the module."""

    @property
    def digests(self) -> tuple[str, ...]:
        """Digests of teacher and fake quantization, for the state of a training."""
        return tuple(part.digest for part in (self.teacher, self.fake_quant) if part is not None)


def fit(
    module: nn.Module,
    videos: TrainingVideos,
    plan: TrainPlan,
    state_file: Path,
    callbacks: Callbacks | None = None,
    method: Method | None = None,
) -> EpochResult:
    """Train `module` in place and return the last epoch's result; continue from `state_file` if it exists.

    The state is written after every epoch, then the `EpochResult` is an event; progress counts the batches of all
    epochs. Afterwards module and teacher are on the CPU, in evaluation mode; the teacher's weights are not changed.
    Raises UsageError if `state_file` belongs to another training, WeightsError if it is damaged or the loss is not
    finite, ModelError if the teacher has other classes, StorageError if the state cannot be written.
    """
    callbacks, method = callbacks or Callbacks(), method or Method()
    module.to("cuda" if torch.cuda.is_available() else "cpu")
    autocast = bfloat16_autocast(module, videos.train, plan)
    optimizer = torch.optim.AdamW(module.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    state = StateFile(state_file, training_fingerprint(module, videos.train, plan, method.digests))
    result = state.resume(module, optimizer) or EpochResult(-1, math.nan, None)
    steps = len(EpochDraws(videos.train, plan, 0))
    scheduler = warmup_cosine(optimizer, plan, plan.epochs * steps, (result.epoch + 1) * steps)
    report = callbacks.step("training")
    with _distillation(module, method.teacher, videos.train, plan) as distillation:
        loss = functools.partial(_loss, module, plan, autocast, distillation)
        for epoch in range(result.epoch + 1, plan.epochs):
            torch.manual_seed(plan.seed * 100_003 + epoch)  # of dropout
            batches = training_batches(videos.train, plan, epoch, device_of(module))
            mean_loss = _train_epoch(module, batches, loss, scheduler, lambda done: report(done, plan.epochs * steps))
            with autocast:
                top1 = None if videos.validation is None else _top1(module, videos.validation, plan)
            result = EpochResult(epoch, mean_loss, top1)
            state.save(module, optimizer, result)
            callbacks.on_event(result)
    module.to("cpu").eval()
    return result


def predict_labels(module: nn.Module, videos: PreparedVideos, plan: TrainPlan) -> npt.NDArray[np.int64]:
    """Return the predicted class of the first clip of every video, center crop, `(videos,)`.

    Leaves `module` in evaluation mode.
    """
    module.eval()
    batches = center_crop_batches(videos, plan, device_of(module))
    with torch.no_grad():
        predicted: list[Tensor] = [module(clips).argmax(1).cpu() for clips, _ in batches]
    labels: npt.NDArray[np.int64] = torch.cat(predicted).numpy()
    return labels


def _top1(module: nn.Module, videos: PreparedVideos, plan: TrainPlan) -> float:
    return float((predict_labels(module, videos, plan) == np.array(videos.labels)).mean())


@contextlib.contextmanager
def _distillation(
    module: nn.Module, teacher: Teacher | None, videos: PreparedVideos, plan: TrainPlan
) -> Iterator[DistillationLoss | None]:
    """Move the teacher to the student's device and yield the loss of both; None without a teacher."""
    if teacher is None:
        yield None
        return
    device = device_of(module)
    clips, _ = next(center_crop_batches(videos, plan, device))
    try:
        teacher.module.to(device)
        autocast = bfloat16_autocast(teacher.module, videos, plan)
        with distillation_loss(module, teacher, autocast, clips[:1]) as loss:
            yield loss
    finally:
        teacher.module.to("cpu")


def _loss(
    module: nn.Module,
    plan: TrainPlan,
    autocast: torch.autocast,
    distillation: DistillationLoss | None,
    clips: Tensor,
    labels: Tensor,
) -> Tensor:
    """Return the cross entropy with smoothed labels, mixed with the distillation loss if there is a teacher."""
    with autocast:
        logits: Tensor = module(clips)
    # A float32 copy for each term: gradients are summed in bfloat16, and weights depend on it to the last bit.
    loss = nn.functional.cross_entropy(logits.float(), labels, label_smoothing=plan.label_smoothing)
    return loss if distillation is None else distillation(loss, clips, logits.float())


def _train_epoch(
    module: nn.Module,
    batches: Generator[tuple[Tensor, Tensor], None, None],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    scheduler: LambdaLR,
    on_step: Callable[[int], None],
) -> float:
    """Take one optimizer step per batch; return the mean loss.

    `on_step` is called with the number of steps since the training began.
    """
    module.train()
    losses: list[float] = []
    with contextlib.closing(batches):
        for clips, labels in batches:
            loss = loss_of(clips, labels)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                step = scheduler.last_epoch + 1
                raise WeightsError(f"training: the loss became {losses[-1]} at step {step}; try a lower learning rate")
            scheduler.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), _MAX_GRADIENT_NORM)
            scheduler.optimizer.step()
            scheduler.step()
            on_step(scheduler.last_epoch)
    return sum(losses) / len(losses)
