"""Training a registry model on a data set: bf16 where the hardware has it, resumable, deterministic by seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from edgeact.clip import ClipSpec
from edgeact.errors import UsageError, WeightsError
from edgeact.export.frames import PreparedVideos
from edgeact.storage import atomic_write

__all__ = ["EpochResult", "TrainPlan", "fit", "predict_labels"]


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


@dataclass(frozen=True)
class EpochResult:
    """What one epoch came to."""

    epoch: int
    loss: float
    validation_top1: float | None


@dataclass(frozen=True)
class Progress:
    """Callbacks of `fit`; either may be left out."""

    on_step: Callable[[int, int], None] | None = None
    on_epoch: Callable[[EpochResult], None] | None = None


def fit(
    module: nn.Module,
    train: PreparedVideos,
    validation: PreparedVideos | None,
    plan: TrainPlan,
    state_file: Path,
    progress: Progress | None = None,
) -> EpochResult:
    """Train `module` in place; after each epoch the state goes to `state_file`, from which a later call continues.

    Raises UsageError where `state_file` belongs to another plan or model, WeightsError where the loss is not finite.
    """
    report = progress or Progress()
    device = _device()
    module.to(device)
    optimizer = torch.optim.AdamW(module.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    first, result = _resume(state_file, module, optimizer, plan)
    for epoch in range(first, plan.epochs):
        loss = _train_epoch(module, optimizer, train, plan, epoch, report.on_step)
        top1 = None
        if validation is not None:
            predicted = predict_labels(module, validation, plan)
            top1 = float((predicted == np.array(validation.labels)).mean())
        result = EpochResult(epoch, loss, top1)
        _save(state_file, module, optimizer, plan, result)
        if report.on_epoch:
            report.on_epoch(result)
    module.to("cpu").eval()
    return result


def _train_epoch(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: PreparedVideos,
    plan: TrainPlan,
    epoch: int,
    on_step: Callable[[int, int], None] | None,
) -> float:
    module.train()
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
        with torch.autocast(clips.device.type, torch.bfloat16):
            logits = module(clips)
        loss = criterion(logits.float(), labels)
        if not bool(torch.isfinite(loss)):
            raise WeightsError(f"the loss became {loss.item()} in epoch {epoch}; try a lower learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimizer.step()
        total += loss.item()
        if on_step:
            on_step(step + 1, steps)
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
    return batch.to(_device()), labels.to(_device())


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
    """Predicted class of the first clip of every video, centre crop, int64 `(videos,)`."""
    module.eval()
    crop_h, crop_w = data.clip.crop
    top, left = ((edge - crop) // 2 for edge, crop in zip(data.clip.resize, data.clip.crop, strict=True))
    predicted = []
    for start in range(0, len(data), plan.batch_size):
        frames = [data.cut(index, 0.0) for index in range(start, min(start + plan.batch_size, len(data)))]
        if plan.frames == "single":
            frames = [np.repeat(clip[[len(clip) // 2]], len(clip), axis=0) for clip in frames]
        batch = torch.from_numpy(np.stack(frames)[:, :, top : top + crop_h, left : left + crop_w])
        clips = _normalized(batch, data.clip).to(_device())
        with torch.no_grad(), torch.autocast(clips.device.type, torch.bfloat16):
            predicted.append(module(clips).argmax(1).cpu())
    return torch.cat(predicted).numpy()


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _fingerprint(module: nn.Module, plan: TrainPlan) -> str:
    shapes = [(name, tuple(tensor.shape)) for name, tensor in module.state_dict().items()]
    return hashlib.sha256(repr((shapes, sorted(asdict(plan).items()))).encode()).hexdigest()


def _resume(
    state_file: Path, module: nn.Module, optimizer: torch.optim.Optimizer, plan: TrainPlan
) -> tuple[int, EpochResult]:
    """The epoch to go on with and the last result."""
    if not state_file.exists():
        return 0, EpochResult(-1, math.nan, None)
    state = torch.load(state_file, map_location=_device(), weights_only=True)
    if state["fingerprint"] != _fingerprint(module, plan):
        raise UsageError(
            f"'{state_file}' belongs to a training with another model or other settings; "
            "repeat those settings, or remove the file to begin anew"
        )
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return state["epoch"] + 1, EpochResult(state["epoch"], state["loss"], state["top1"])


def _save(
    state_file: Path, module: nn.Module, optimizer: torch.optim.Optimizer, plan: TrainPlan, result: EpochResult
) -> None:
    state = {
        "fingerprint": _fingerprint(module, plan),
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": result.epoch,
        "loss": result.loss,
        "top1": result.validation_top1,
    }
    with atomic_write(state_file) as handle:
        torch.save(state, handle)
