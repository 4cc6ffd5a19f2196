"""Training a module on prepared videos: bf16 where the hardware has it, resumable.

On a CPU the outcome depends on the plan, the data, the module and the number of threads alone, interrupted or not.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from edgeact.clip import ClipSpec
from edgeact.errors import UsageError, WeightsError
from edgeact.export.models.checkpoint import state_sha256
from edgeact.export.models.hooks import evaluated, forward_hooks
from edgeact.export.train.distill import DistillationLoss, Teacher, distillation_loss
from edgeact.export.train.frame_cache import PreparedVideos
from edgeact.progress import OnProgress, OnStep, titled
from edgeact.storage import atomic_write

__all__ = ["EpochResult", "Progress", "TrainPlan", "TrainingVideos", "centred_batches", "fit", "predict_labels"]

# Relative error of a convolution with inputs and weights rounded to 8 bits is below 1 %.
_BF16_ERROR = 0.03
_STATE_KEYS = {"fingerprint", "module", "optimizer", "epoch", "loss", "top1"}


@dataclass(frozen=True)
class TrainPlan:
    """Everything that decides the outcome of a training, the data and the module aside."""

    epochs: int = 20
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    warmup_fraction: float = 0.1
    seed: int = 0
    flip: bool = False
    """Mirror clips at random; wrong where classes differ by left and right."""
    frames: Literal["clip", "single"] = "clip"
    """'single' repeats one frame: the baseline that shows how much of a data set needs no motion."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise UsageError(
                "expected at least one epoch, one clip a batch and a positive learning rate, got "
                f"{self.epochs}, {self.batch_size}, {self.learning_rate}"
            )
        if self.weight_decay < 0 or not (0 <= self.label_smoothing < 1 and 0 <= self.warmup_fraction < 1):
            raise UsageError(
                "expected a weight decay from 0, a label smoothing and a warm-up fraction within [0, 1), got "
                f"{self.weight_decay}, {self.label_smoothing}, {self.warmup_fraction}"
            )


@dataclass(frozen=True)
class TrainingVideos:
    """What is trained on, and what the outcome is told of after each epoch; nothing is chosen by the latter."""

    train: PreparedVideos
    validation: PreparedVideos | None = None


@dataclass(frozen=True)
class EpochResult:
    """What one epoch came to."""

    epoch: int
    """Counted from 0."""
    loss: float
    """Mean of the steps' losses."""
    validation_top1: float | None
    """Within [0, 1]; None without validation videos."""


@dataclass(frozen=True)
class Progress:
    """Callbacks of a training; each may be left out."""

    on_step: OnStep | None = None
    """Of `fit` itself the step is 'training', counted in batches of all epochs."""
    on_epoch: Callable[[EpochResult], None] | None = None
    on_note: Callable[[str], None] = lambda _text: None
    """What the user should know of the weights it starts from."""


def fit(
    module: nn.Module,
    videos: TrainingVideos,
    plan: TrainPlan,
    state_file: Path,
    progress: Progress | None = None,
    teacher: Teacher | None = None,
) -> EpochResult:
    """Train `module` in place; after each epoch the state goes to `state_file`, from which a later call continues.

    With a teacher, which is left as it is, the loss is mixed with what it says of the same clips.
    Returns the last epoch's result; the module, and the teacher, are then on the CPU and in evaluation mode. Raises
    UsageError where `state_file` belongs to another plan, model, teacher or data, WeightsError where it is not readable
    or the loss is not finite, ModelError for a teacher of other classes, StorageError where it cannot be written.
    """
    report = progress or Progress()
    module.to("cuda" if torch.cuda.is_available() else "cpu")
    autocast = _autocast(module, videos.train, plan)
    optimizer = torch.optim.AdamW(module.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    fingerprint = _fingerprint(module, videos.train, plan, teacher)
    first, result = _resume(state_file, module, optimizer, fingerprint)
    on_step = titled(report.on_step, "training")
    with _distillation(module, teacher, videos.train, plan) as distillation:
        run = _Run(module, optimizer, videos.train, plan, autocast, distillation)
        for epoch in range(first, plan.epochs):
            loss = _train_epoch(run, epoch, on_step)
            result = EpochResult(epoch, loss, _validated(module, videos.validation, plan, autocast))
            _save(state_file, module, optimizer, fingerprint, result)
            if report.on_epoch:
                report.on_epoch(result)
    module.to("cpu").eval()
    return result


def _validated(
    module: nn.Module, validation: PreparedVideos | None, plan: TrainPlan, autocast: torch.autocast
) -> float | None:
    if validation is None:
        return None
    with autocast:
        predicted = predict_labels(module, validation, plan)
    return float((predicted == np.array(validation.labels)).mean())


@contextlib.contextmanager
def _distillation(
    module: nn.Module, teacher: Teacher | None, data: PreparedVideos, plan: TrainPlan
) -> Iterator[DistillationLoss | None]:
    """Move the teacher to the student's device and yield the loss of both; None without a teacher."""
    if teacher is None:
        yield None
        return
    device = _device_of(module)
    clips, _ = next(centred_batches(data, plan))
    try:
        teacher.module.to(device)
        autocast = _autocast(teacher.module, data, plan)
        with distillation_loss(module, teacher, autocast, clips[:1].to(device)) as loss:
            yield loss
    finally:
        teacher.module.to("cpu")


@dataclass(frozen=True)
class _Run:
    module: nn.Module
    optimizer: torch.optim.Optimizer
    data: PreparedVideos
    plan: TrainPlan
    autocast: torch.autocast
    distillation: DistillationLoss | None


def _train_epoch(run: _Run, epoch: int, on_progress: OnProgress | None) -> float:
    """The mean loss of one pass over the data."""
    module, optimizer, data, plan = run.module, run.optimizer, run.data, run.plan
    module.train()
    device = _device_of(module)
    rng = np.random.default_rng((plan.seed, epoch))
    torch.manual_seed(plan.seed * 100_003 + epoch)
    order = rng.permutation(len(data))
    steps = max(len(order) // plan.batch_size, 1)
    criterion = nn.CrossEntropyLoss(label_smoothing=plan.label_smoothing)
    total = 0.0
    for step in range(steps):
        rate = _learning_rate(plan, (epoch * steps + step) / (plan.epochs * steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        clips, labels = _train_batch(data, order[step * plan.batch_size :][: plan.batch_size], plan, rng)
        clips = clips.to(device)
        with run.autocast:
            logits = module(clips)
        loss = criterion(logits.float(), labels.to(device))
        if run.distillation:
            loss = run.distillation(loss, clips, logits.float())
        if not bool(torch.isfinite(loss)):
            raise WeightsError(f"the loss became {loss.item()} in epoch {epoch}; try a lower learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimizer.step()
        total += loss.item()
        if on_progress:
            on_progress(epoch * steps + step + 1, plan.epochs * steps)
    return total / steps


def _learning_rate(plan: TrainPlan, done: float) -> float:
    """Linear warm-up, then half a cosine."""
    if done < plan.warmup_fraction:
        return plan.learning_rate * max(done / plan.warmup_fraction, 0.01)
    rest = (done - plan.warmup_fraction) / (1 - plan.warmup_fraction)
    return plan.learning_rate * 0.5 * (1 + math.cos(math.pi * rest))


def _train_batch(
    data: PreparedVideos, indices: np.ndarray, plan: TrainPlan, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Randomly placed, cropped and lit clips `(N, 3, T, H, W)` with their labels."""
    crop_h, crop_w = data.clip.crop
    clips = []
    for index in indices:
        frames = data.cut(int(index), rng.random())
        if plan.frames == "single":
            frames = np.repeat(frames[[rng.integers(len(frames))]], len(frames), axis=0)
        top = rng.integers(frames.shape[1] - crop_h + 1)
        left = rng.integers(frames.shape[2] - crop_w + 1)
        frames = frames[:, top : top + crop_h, left : left + crop_w]
        if plan.flip and rng.random() < 0.5:
            frames = frames[:, :, ::-1]
        clips.append(torch.from_numpy(np.ascontiguousarray(frames)))
    light = torch.from_numpy(rng.uniform((0.7, -0.15), (1.3, 0.15), (len(clips), 2)).astype(np.float32))
    batch = _normalized(torch.stack(clips), data.clip, light)
    labels = torch.tensor([data.labels[int(index)] for index in indices])
    return batch, labels


def _normalized(frames: Tensor, clip: ClipSpec, light: Tensor | None = None) -> Tensor:
    """uint8 `(N, T, H, W, 3)` -> float32 `(N, 3, T, H, W)`; `light` holds gain and offset a clip."""
    scaled = frames.float() / 255
    if light is not None:
        gain, offset = light.view(-1, 2, 1, 1, 1, 1).unbind(1)
        scaled = (scaled * gain + offset).clamp(0, 1)
    if clip.channel_order == "bgr":
        scaled = scaled.flip(-1)
    normalized = (scaled - torch.tensor(clip.mean)) / torch.tensor(clip.std)
    return normalized.permute(0, 4, 1, 2, 3).contiguous()


def predict_labels(module: nn.Module, data: PreparedVideos, plan: TrainPlan) -> np.ndarray:
    """Predicted class of the first clip of every video, centre crop, int64 `(videos,)`; leaves evaluation mode on."""
    module.eval()
    device = _device_of(module)
    predicted = []
    for clips, _ in centred_batches(data, plan):
        with torch.no_grad():
            predicted.append(module(clips.to(device)).argmax(1).cpu())
    return torch.cat(predicted).numpy()


def centred_batches(data: PreparedVideos, plan: TrainPlan) -> Iterator[tuple[Tensor, Tensor]]:
    """The first clip of every video, centre crop, as the network takes it `(N, 3, T, H, W)`, with the labels `(N,)`."""
    crop_h, crop_w = data.clip.crop
    top, left = ((edge - crop) // 2 for edge, crop in zip(data.clip.resize, data.clip.crop, strict=True))
    for start in range(0, len(data), plan.batch_size):
        stop = min(start + plan.batch_size, len(data))
        frames = [data.cut(index, 0.0) for index in range(start, stop)]
        if plan.frames == "single":
            frames = [np.repeat(clip[[len(clip) // 2]], len(clip), axis=0) for clip in frames]
        batch = torch.from_numpy(np.stack(frames)[:, :, top : top + crop_h, left : left + crop_w])
        yield _normalized(batch, data.clip), torch.tensor(data.labels[start:stop])


def _device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _autocast(module: nn.Module, data: PreparedVideos, plan: TrainPlan) -> torch.autocast:
    """bfloat16 where the module's device computes in it, and rightly; FP32 elsewhere."""
    device = _device_of(module)
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_mkldnn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        has_bf16 = has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if has_bf16:
        frames = np.stack([data.cut(index, 0.0) for index in range(min(plan.batch_size, len(data)))])
        crop_h, crop_w = data.clip.crop
        has_bf16 = _is_right_in_bf16(module, _normalized(torch.from_numpy(frames[:, :, :crop_h, :crop_w]), data.clip))
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16)


def _is_right_in_bf16(module: nn.Module, clips: Tensor) -> bool:
    """Whether every convolution gives in bfloat16 what it gives in FP32, to rounding.

    With torch 2.13 on CPUs with AMX, 3x3x3 convolutions of maps of one frame leave part of their output unwritten
    for some channel counts (7, 12, 14, ...): the loss becomes NaN, or worse, does not.
    """
    errors: list[float] = []

    def compare(_name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        with torch.autocast(output.device.type, enabled=False):
            expected = layer.forward(inputs[0].float())
        errors.append(float((output.float() - expected).norm() / expected.norm().clamp(min=1e-20)))

    convolutions = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Conv3d)}
    device = _device_of(module)
    autocast = torch.autocast(device.type, torch.bfloat16)
    with evaluated(module), forward_hooks(convolutions, compare), torch.no_grad(), autocast:
        module(clips.to(device))
    return all(error < _BF16_ERROR for error in errors)  # NaN compares as wrong


def _fingerprint(module: nn.Module, data: PreparedVideos, plan: TrainPlan, teacher: Teacher | None) -> str:
    """Tells whether two trainings are the same, by where they begin, whatever folder their videos lie in."""
    changed = [name for name, layer in module.named_modules() if "forward" in vars(layer)]  # they round, for example
    extra = (*((teacher.digest,) if teacher else ()), *changed)
    videos = (data.clip.model_dump_json(), data.labels, data.sampled_sha256())
    described = (state_sha256(module), videos, sorted(asdict(plan).items()), *extra)
    return hashlib.sha256(repr(described).encode()).hexdigest()


def _resume(
    state_file: Path, module: nn.Module, optimizer: torch.optim.Optimizer, fingerprint: str
) -> tuple[int, EpochResult]:
    """The epoch to go on with and the last result."""
    if not state_file.exists():
        return 0, EpochResult(-1, math.nan, None)
    state = _read_state(state_file, _device_of(module))
    if state["fingerprint"] != fingerprint:
        raise UsageError(
            f"'{state_file}' belongs to a training of another model, from other weights, on other data, with other "
            "settings or another teacher; repeat those settings, or remove the file to begin anew"
        )
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return state["epoch"] + 1, EpochResult(state["epoch"], state["loss"], state["top1"])


def _read_state(state_file: Path, device: torch.device) -> dict[str, Any]:
    try:
        state = torch.load(state_file, map_location=device, weights_only=True)
    except Exception as error:  # reading a broken pickle can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"'{state_file}' is not readable as the state of a training ({reason}); remove it to begin anew"
        ) from error
    if not isinstance(state, dict) or not _STATE_KEYS.issubset(state):
        raise WeightsError(f"'{state_file}' is not the state of a training; remove it to begin anew")
    return state


def _save(
    state_file: Path, module: nn.Module, optimizer: torch.optim.Optimizer, fingerprint: str, result: EpochResult
) -> None:
    state = {
        "fingerprint": fingerprint,
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": result.epoch,
        "loss": result.loss,
        "top1": result.validation_top1,
    }
    with atomic_write(state_file) as handle:
        torch.save(state, handle)
