"""What `edgeact train` does: data set in, weights with a model card out."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import edgeact
from edgeact.calibration.datasets import LOADING_STEP, Dataset, load_dataset
from edgeact.clip import ClipSpec
from edgeact.errors import DatasetError, UsageError
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.checkpoint import Checkpoint, ModelCard, load_weights, read_weights, write_weights
from edgeact.export.models.checkpoint_names import fill_missing, trained_clip, with_our_names
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.pruning.apply import apply_cuts
from edgeact.export.models.pruning.plan import PruningPlan
from edgeact.export.models.registry import find_model
from edgeact.export.models.spec import ModelSpec, resized_clip
from edgeact.export.train.frame_cache import PreparedVideos, prepare
from edgeact.export.train.loop import Progress, TrainingVideos, TrainPlan, centred_batches, fit, predict_labels
from edgeact.export.train.qat import int8_layers, rounding
from edgeact.progress import titled

__all__ = ["TrainRequest", "train"]

_RANGE_BATCHES = 4


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
    """Height and width of the crop, pixels."""
    resize: tuple[int, int] | None = None
    """(height, width) before the crop, pixels."""
    fps: float | None = None
    init: Path | None = None
    int8: bool = False
    """Train with the rounding of INT8, from the initial weights; their answers in float change as well."""

    def __post_init__(self) -> None:
        if self.int8 and self.init is None:
            raise UsageError("training for INT8 adapts trained weights to its rounding; give them with --init")


def train(request: TrainRequest, progress: Progress | None = None) -> ModelCard:
    """Train, write `request.out` and return its card; the resumable state lies beside it until the end.

    Initial weights of as many classes as the data set has are taken whole; otherwise their classifier is left out and
    a new one is trained.
    Raises UsageError, DatasetError, WeightsError or StorageError, each naming expected and got.
    """
    if request.out.suffix != ".safetensors":
        raise UsageError(f"expected --out FILE.safetensors, got '{request.out}'")
    report = progress or Progress()
    spec = find_model(request.model)
    dataset = load_dataset(request.data, titled(report.on_step, LOADING_STEP))
    initial = with_our_names(read_weights(request.init)) if request.init else None
    start = _started(request, spec, dataset.labels, initial)
    for note in start.notes:
        report.on_note(note)
    prepared = _prepared(request, dataset, start.clip, report)
    state = request.out.with_suffix(".training")
    videos = TrainingVideos(prepared["train"], prepared.get("val"))
    with _rounding(request, start.module, start.clip, videos, report):
        result = fit(start.module, videos, request.plan, state, report)
    card = ModelCard(
        model=spec.name,
        width=start.width,
        labels=dataset.labels,
        clip=start.clip,
        provenance={
            "paper": spec.paper,
            **_provenance(request.plan, dataset, prepared),
            "data_digest": dataset.digest("train", titled(report.on_step, "hashing the videos")),
            "initial_weights": initial.sha256 if initial else "random",
            **({"initial_weights_notes": "; ".join(start.notes)} if start.notes else {}),
            **({"rounding": "INT8"} if request.int8 else {}),
            "validation_top1": "not measured" if result.validation_top1 is None else f"{result.validation_top1:.4f}",
        },
    )
    for plan in start.pruning:
        card = card.pruned_by(plan)
    write_weights(request.out, start.module, card)
    state.unlink(missing_ok=True)
    return card


@dataclass(frozen=True)
class _Start:
    """What is trained, before its first step."""

    module: nn.Module
    clip: ClipSpec
    width: int
    pruning: tuple[PruningPlan, ...]
    notes: tuple[str, ...]


def _started(request: TrainRequest, spec: ModelSpec, labels: tuple[str, ...], initial: Checkpoint | None) -> _Start:
    """The module as its initial weights have it, cut as they were, or at random."""
    card = initial.card if initial else None
    clip = resized_clip(
        trained_clip(initial, spec.clip),
        clip_frames=request.clip_frames,
        size=request.size,
        resize=request.resize,
        fps=request.fps,
    )
    options = spec.config(len(labels), width=request.width or (card.width if card else None), clip=clip)
    torch.manual_seed(request.plan.seed)
    module = spec.build(options)
    pruning = tuple(card.pruning) if card else ()
    for plan in pruning:
        apply_cuts(module, plan.cuts)
    notes = _start_from(initial, spec, options, module) if initial else ()
    return _Start(module, clip, options.width, pruning, notes)


def _prepared(request: TrainRequest, dataset: Dataset, clip: ClipSpec, report: Progress) -> dict[str, PreparedVideos]:
    """The videos of 'train', and of 'val' where there are any, decoded."""
    splits = {name: dataset.splits[name] for name in ("train", "val") if dataset.splits.get(name)}
    if "train" not in splits:
        raise DatasetError(f"'{request.data}' has no 'train' split; it has {', '.join(dataset.splits)}")
    return {
        name: prepare(items, clip, titled(report.on_step, f"decoding the {name} videos"))
        for name, items in splits.items()
    }


@contextlib.contextmanager
def _rounding(
    request: TrainRequest, module: nn.Module, clip: ClipSpec, videos: TrainingVideos, report: Progress
) -> Iterator[None]:
    """The rounding of INT8, where it is asked for; what it costs before the training is told."""
    if not request.int8:
        yield
        return
    layers = int8_layers(module, to_onnx(module.eval(), clip))
    batches = itertools.islice(centred_batches(videos.train, request.plan), _RANGE_BATCHES)
    with rounding(module, layers, (clips for clips, _ in batches)):
        told = f"{len(layers)} layers are rounded to INT8 while they train"
        if videos.validation is not None:
            right = predict_labels(module, videos.validation, request.plan) == np.array(videos.validation.labels)
            told += f"; before, they validate at {right.mean():.1%}"
        report.on_note(told)
        yield


def _start_from(initial: Checkpoint, spec: ModelSpec, options: NetworkConfig, module: nn.Module) -> tuple[str, ...]:
    """Fill the module; what is said of tensors that did not come from the file."""
    weights, notes = fill_missing(initial, spec, options, module)
    fitting = _for_classes(weights, spec, module)
    if fitting is not weights:
        notes = (*notes, f"not from the file: {spec.classifier}, trained anew for {options.class_count} classes")
    load_weights(module, fitting)
    return notes


def _for_classes(initial: Checkpoint, spec: ModelSpec, module: nn.Module) -> Checkpoint:
    """`initial` with the module's own new classifier in place of one for another number of classes."""
    own = {name: tensor for name, tensor in module.state_dict().items() if name.startswith(f"{spec.classifier}.")}
    if all(name in initial.tensors and len(initial.tensors[name]) == len(tensor) for name, tensor in own.items()):
        return initial
    return initial.model_copy(update={"tensors": {**initial.tensors, **own}})


def _provenance(plan: TrainPlan, dataset: Dataset, prepared: Mapping[str, PreparedVideos]) -> dict[str, str]:
    skipped = sum((videos.skipped for videos in prepared.values()), Counter[str]())
    return {
        "data": dataset.name,
        "train_videos": str(len(prepared["train"])),
        "skipped_videos": ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "none",
        "epochs": str(plan.epochs),
        "seed": str(plan.seed),
        "frames": plan.frames,
        "edgeact": edgeact.__version__,
        "torch": torch.__version__,
    }
