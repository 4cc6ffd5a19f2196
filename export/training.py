"""What `edgeact train` does: data set in, weights with a model card out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import edgeact
from edgeact.calibration.datasets import Dataset, VideoItem, load_dataset
from edgeact.clip import ClipSpec
from edgeact.errors import DatasetError, UsageError
from edgeact.export.frames import PreparedVideos, prepare
from edgeact.export.models.registry import find_model
from edgeact.export.models.spec import ModelSpec, resized_clip
from edgeact.export.train import Progress, TrainPlan, fit
from edgeact.export.weights import ModelCard, fill, read_weights, write_weights

__all__ = ["TrainRequest", "train"]

OnPrepare = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainRequest:
    """What to train on what, and where to; None means: as the paper, or the initial weights' card, has it."""

    model: str
    data: str
    out: Path
    plan: TrainPlan
    width: int | None = None
    clip_frames: int | None = None
    size: int | None = None
    resize: str | None = None
    fps: float | None = None
    init: Path | None = None


def train(request: TrainRequest, progress: Progress | None = None, on_prepare: OnPrepare | None = None) -> ModelCard:
    """Train, write `request.out` and return its card; the resumable state lies beside it until the end."""
    if request.out.suffix != ".safetensors":
        raise UsageError(f"expected --out FILE.safetensors, got '{request.out}'")
    spec = find_model(request.model)
    dataset = load_dataset(request.data)
    initial = read_weights(request.init) if request.init else None
    card = initial.card if initial else None
    clip = _clip(request, card.clip if card else spec.clip)
    options = spec.options(len(dataset.labels), width=request.width or (card.width if card else None), clip=clip)
    torch.manual_seed(request.plan.seed)
    module = spec.build(options)
    if initial:
        fill(module, initial)
    prepared = {
        name: prepare(_split(dataset, name), clip, on_prepare) for name in ("train", "val") if dataset.splits.get(name)
    }
    if "train" not in prepared:
        raise DatasetError(f"'{request.data}' has no 'train' split; it has {', '.join(dataset.splits)}")
    state = request.out.with_suffix(".training")
    result = fit(module, prepared["train"], prepared.get("val"), request.plan, state, progress)
    top1 = "not measured" if result.validation_top1 is None else f"{result.validation_top1:.4f}"
    made = ModelCard(
        model=spec.name,
        width=options.width,
        labels=dataset.labels,
        clip=clip,
        provenance=_provenance(request, spec, dataset, prepared, top1),
    )
    write_weights(request.out, module, made)
    state.unlink(missing_ok=True)
    return made


def _clip(request: TrainRequest, base: ClipSpec) -> ClipSpec:
    clip = resized_clip(base, clip_frames=request.clip_frames, size=request.size, fps=request.fps)
    if request.resize is None:
        return clip
    height, _, width = request.resize.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise UsageError(f"expected --resize HEIGHTxWIDTH in pixels, got '{request.resize}'")
    return ClipSpec.model_validate({**clip.model_dump(), "resize": (int(height), int(width))})


def _split(dataset: Dataset, name: str) -> Sequence[VideoItem]:
    return dataset.splits[name]


def _provenance(
    request: TrainRequest, spec: ModelSpec, dataset: Dataset, prepared: Mapping[str, PreparedVideos], top1: str
) -> dict[str, str]:
    plan = request.plan
    return {
        "paper": spec.paper,
        "data": dataset.name,
        "data_digest": dataset.digest("train"),
        "train_videos": str(len(prepared["train"])),
        "epochs": str(plan.epochs),
        "seed": str(plan.seed),
        "frames": plan.frames,
        "initial_weights": read_weights(request.init).sha256 if request.init else "random",
        "validation_top1": top1,
        "edgeact": edgeact.__version__,
        "torch": torch.__version__,
    }
