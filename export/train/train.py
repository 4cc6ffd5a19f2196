"""`edgeact train`: from a data set to weights with a model card."""

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
from edgeact.export.train.batches import center_crop_batches
from edgeact.export.train.frame_cache import PreparedVideos, prepare
from edgeact.export.train.loop import Method, fit, predict_labels
from edgeact.export.train.plan import EpochResult, TrainingVideos, TrainPlan
from edgeact.export.train.qat import FakeQuant, fake_quantized, int8_layers
from edgeact.loading_notes import ModelNote, NewClassifier
from edgeact.phrases import phrase
from edgeact.progress import Callbacks

__all__ = ["TrainRequest", "train"]

_RANGE_BATCHES = 4


@dataclass(frozen=True)
class TrainRequest:
    """Model, data and settings of a training; None takes the value of the initial weights' card, else the paper's."""

    model: str
    """Name or formula in the registry."""
    data: str
    """Data set; its train split is trained on, the accuracy on its val split is reported."""
    out: Path
    """Weights to write, `.safetensors`."""
    plan: TrainPlan
    width: int | None = None
    clip_frames: int | None = None
    size: int | None = None
    """Height and width of the crop, pixels."""
    resize: tuple[int, int] | None = None
    """(height, width) before the crop, pixels."""
    fps: float | None = None
    init: Path | None = None
    """Initial weights."""
    int8: bool = False
    """Quantization-aware training from the initial weights."""

    def __post_init__(self) -> None:
        if self.int8 and self.init is None:
            raise UsageError(
                "--int8 (quantization-aware training): expected trained weights, got none; give --init FILE"
            )


def train(request: TrainRequest, callbacks: Callbacks | None = None) -> ModelCard:
    """Train, write `request.out` and return its card; an `EpochResult` is an event after every epoch.

    A resumable state lies beside `request.out` until this is written. If the initial weights have another number of
    classes than the data set, their classifier is replaced by a new one.
    Raises UsageError, DatasetError, WeightsError or StorageError, each naming expected and got.
    """
    if request.out.suffix != ".safetensors":
        raise UsageError(f"trained weights: expected --out FILE.safetensors, got '{request.out}'")
    callbacks = callbacks or Callbacks()
    spec = find_model(request.model)
    dataset = load_dataset(request.data, callbacks.step(LOADING_STEP))
    checkpoint = with_our_names(read_weights(request.init)) if request.init else None
    start = _start(request, spec, dataset.labels, checkpoint)
    for note in start.notes:
        callbacks.on_note(phrase(note))
    prepared = _prepared_splits(request, dataset, start.clip, callbacks)
    videos = TrainingVideos(prepared["train"], prepared.get("val"))
    state_file = request.out.with_suffix(".training")
    with _quantization_aware(request, start, videos, callbacks) as fake_quant:
        result = fit(start.module, videos, request.plan, state_file, callbacks, Method(fake_quant=fake_quant))
    provenance = {
        "paper": spec.paper,
        **_provenance(request, dataset, prepared),
        "data_digest": dataset.digest("train", callbacks.step("hashing the videos")),
        "initial_weights": checkpoint.sha256 if checkpoint else "random",
        **({"initial_weights_notes": "; ".join(map(phrase, start.notes))} if start.notes else {}),
        **({"rounding": "INT8"} if request.int8 else {}),
        "validation_top1": _validation_text(result),
    }
    card = ModelCard(model=spec.name, width=start.width, labels=dataset.labels, clip=start.clip, provenance=provenance)
    for plan in start.pruning:
        card = card.pruned_by(plan)
    write_weights(request.out, start.module, card)
    state_file.unlink(missing_ok=True)
    return card


@dataclass(frozen=True)
class _Start:
    """The module before its first optimizer step."""

    module: nn.Module
    clip: ClipSpec
    width: int
    pruning: tuple[PruningPlan, ...]
    notes: tuple[ModelNote, ...]


def _start(request: TrainRequest, spec: ModelSpec, labels: tuple[str, ...], checkpoint: Checkpoint | None) -> _Start:
    """Build the module, prune it as the checkpoint was, and load the checkpoint; random weights without one."""
    card = checkpoint.card if checkpoint else None
    clip = resized_clip(
        trained_clip(checkpoint, spec.clip),
        clip_frames=request.clip_frames,
        size=request.size,
        resize=request.resize,
        fps=request.fps,
    )
    config = spec.config(len(labels), width=request.width or (card.width if card else None), clip=clip)
    torch.manual_seed(request.plan.seed)
    module = spec.build(config)
    pruning = tuple(card.pruning) if card else ()
    for plan in pruning:
        apply_cuts(module, plan.cuts)
    notes = _load(checkpoint, spec, config, module) if checkpoint else ()
    return _Start(module, clip, config.width, pruning, notes)


def _load(checkpoint: Checkpoint, spec: ModelSpec, config: NetworkConfig, module: nn.Module) -> tuple[ModelNote, ...]:
    """Load the checkpoint into `module`; return notes on tensors that the file does not have."""
    complete, notes = fill_missing(checkpoint, spec, config, module)
    fitting = _with_new_classifier(complete, spec, module)
    if fitting is not complete:
        notes = (*notes, NewClassifier(layer=spec.classifier, classes=config.class_count))
    load_weights(module, fitting)
    return notes


def _with_new_classifier(checkpoint: Checkpoint, spec: ModelSpec, module: nn.Module) -> Checkpoint:
    """Return `checkpoint` with the module's classifier if the file has none, or one of another number of classes."""
    classifier = {
        name: tensor for name, tensor in module.state_dict().items() if name.startswith(f"{spec.classifier}.")
    }
    tensors = checkpoint.tensors
    if all(name in tensors and len(tensors[name]) == len(tensor) for name, tensor in classifier.items()):
        return checkpoint
    return checkpoint.model_copy(update={"tensors": {**tensors, **classifier}})


def _prepared_splits(
    request: TrainRequest, dataset: Dataset, clip: ClipSpec, callbacks: Callbacks
) -> dict[str, PreparedVideos]:
    """Decode the videos of 'train', and of 'val' if there are any."""
    splits = {name: dataset.splits[name] for name in ("train", "val") if dataset.splits.get(name)}
    if "train" not in splits:
        raise DatasetError(
            f"'{request.data}': expected a 'train' split to train on, got {', '.join(dataset.splits) or 'no split'}"
        )
    return {name: prepare(items, clip, callbacks.step(f"decoding the {name} videos")) for name, items in splits.items()}


@contextlib.contextmanager
def _quantization_aware(
    request: TrainRequest, start: _Start, videos: TrainingVideos, callbacks: Callbacks
) -> Iterator[FakeQuant | None]:
    """Fake-quantize the layers that INT8 will compute, if requested, and report the accuracy before training."""
    if not request.int8:
        yield None
        return
    module = start.module
    layers = int8_layers(module, to_onnx(module.eval(), start.clip))
    batches = itertools.islice(center_crop_batches(videos.train, request.plan), _RANGE_BATCHES)
    with fake_quantized(module, layers, (clips for clips, _ in batches)) as fake_quant:
        note = f"{len(layers)} layers are fake-quantized to INT8 during training"
        if videos.validation is not None:
            correct = predict_labels(module, videos.validation, request.plan) == np.array(videos.validation.labels)
            note += f"; validation top-1 before training: {correct.mean():.1%}"
        callbacks.on_note(note)
        yield fake_quant


def _provenance(request: TrainRequest, dataset: Dataset, prepared: Mapping[str, PreparedVideos]) -> dict[str, str]:
    skipped: Counter[str] = Counter()
    for videos in prepared.values():
        skipped.update(videos.skipped)
    plan = request.plan
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


def _validation_text(result: EpochResult) -> str:
    return "not measured" if result.validation_top1 is None else f"{result.validation_top1:.4f}"
