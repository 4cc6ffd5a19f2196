"""Load a model: a registry name, a user's factory 'package.module:factory', or a module object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from edgeact.clip import ClipSpec
from edgeact.errors import UsageError, WeightsError
from edgeact.export.models.checkpoint import Checkpoint, load_weights, read_weights, shipped_weights, state_sha256
from edgeact.export.models.checkpoint_names import fill_missing, trained_clip, with_our_names
from edgeact.export.models.checks import check_forward, count_classes
from edgeact.export.models.factory import call_factory
from edgeact.export.models.pruning.apply import apply_cuts
from edgeact.export.models.pruning.plan import PruningPlan
from edgeact.export.models.registry import MODELS, find_model
from edgeact.export.models.spec import ModelSpec, Pixels, resized_clip
from edgeact.export.models.synthetic import calibrate_batch_norm
from edgeact.loading_notes import AssumedClip, ModelNote
from edgeact.phrases import phrase

__all__ = ["DEFAULT_MODEL", "LoadRequest", "LoadedModel", "load_model"]

DEFAULT_MODEL = "msf-r3d-fsam"
_CLASSES_WITHOUT_WEIGHTS = 101  # the papers' figures are those of UCF-101
_USER_CLIP = "msf-r3d-fsam"  # the row whose preprocessing a user's module gets if none is given


@dataclass(frozen=True)
class LoadRequest:
    """How to load a model. A field that is None takes the value of the weights' model card, else of the paper."""

    weights: Path | None = None
    labels: tuple[str, ...] | None = None
    width: int | None = None
    """Channels of the first stage."""
    clip: ClipSpec | None = None
    clip_frames: int | None = None
    size: int | None = None
    """Height and width of the crop, pixels."""
    fps: float | None = None
    resize: tuple[int, int] | None = None
    """(height, width) before the crop, pixels."""
    pixels: Pixels = field(default_factory=Pixels)
    random_weights: bool = False
    seed: int = 0


@dataclass(frozen=True)
class LoadedModel:
    """A module in evaluation mode with its clip contract, labels and provenance."""

    name: str
    source: str
    """The registry name, or 'package.module:factory'."""
    module: nn.Module
    """float32 `(1, 3, T, H, W)` -> logits `(1, classes)`, on the CPU."""
    clip: ClipSpec
    labels: tuple[str, ...]
    weights_sha256: str
    trained: bool
    """False for random weights, whose accuracy means nothing."""
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[ModelNote, ...] = ()
    """Assumptions made while loading, for the user."""
    pruning: tuple[PruningPlan, ...] = ()
    """The prunings applied before these weights were written, in order."""


def load_model(source: str | nn.Module | None, request: LoadRequest | None = None) -> LoadedModel:
    """Build a model, load its weights, and check by one forward pass that it maps its clip to its classes.

    `source` None is the default model. A module object is used itself, not copied: its weights are loaded, it is moved
    to the CPU and put in evaluation mode. Raises UnknownNameError, UsageError, WeightsError or ModelError.
    """
    wanted = request or LoadRequest()
    if wanted.weights and wanted.random_weights:
        raise UsageError(f"expected either weights or random weights, got both ('{wanted.weights}' and random)")
    if isinstance(source, nn.Module):
        loaded = _from_module(type(source).__name__, source, wanted)
    elif source is not None and ":" in source:
        loaded = _from_module(source, call_factory(source), wanted)
    else:
        loaded = _from_registry(source or DEFAULT_MODEL, wanted)
    check_forward(loaded.source, loaded.module, loaded.clip, loaded.labels)
    return loaded


def _from_registry(name: str, request: LoadRequest) -> LoadedModel:
    spec = find_model(name)
    checkpoint = _checkpoint_for(name, request)
    card = checkpoint.card if checkpoint else None
    clip = _clip(request, trained_clip(checkpoint, spec.clip))
    labels = _labels(spec, request, checkpoint)
    config = spec.config(len(labels), width=request.width or (card.width if card else None), clip=clip)
    torch.manual_seed(request.seed)
    module = spec.build(config)
    _rebuild_pruned(module, checkpoint)
    notes: tuple[ModelNote, ...] = ()
    if checkpoint:
        checkpoint, notes = fill_missing(checkpoint, spec, config, module)
        load_weights(module, checkpoint)
    else:
        calibrate_batch_norm(module, clip, request.seed)
    return LoadedModel(
        name=name,
        source=name,
        module=module.eval(),
        clip=clip,
        labels=labels,
        weights_sha256=checkpoint.sha256 if checkpoint else state_sha256(module),
        trained=checkpoint is not None,
        options={"width": config.width},
        provenance=card.provenance if card else _provenance(request, notes),
        notes=notes,
        pruning=card.pruning if card else (),
    )


def _from_module(source: str, module: nn.Module, request: LoadRequest) -> LoadedModel:
    checkpoint = read_weights(request.weights) if request.weights else None
    card = checkpoint.card if checkpoint else None
    if checkpoint:
        _rebuild_pruned(module, checkpoint)
        load_weights(module, checkpoint)
    clip = _clip(request, card.clip if card else MODELS[_USER_CLIP].clip)
    module.to("cpu").eval()
    return LoadedModel(
        name=source.partition(":")[2] or source,
        source=source,
        module=module,
        clip=clip,
        labels=request.labels or (card.labels if card else None) or _numbered(count_classes(source, module, clip)),
        weights_sha256=checkpoint.sha256 if checkpoint else state_sha256(module),
        trained=not request.random_weights,
        provenance=card.provenance if card else {} if checkpoint else {"weights": "as the factory made them"},
        notes=() if card else _assumed_clip(request, clip),
        pruning=card.pruning if card else (),
    )


def _checkpoint_for(name: str, request: LoadRequest) -> Checkpoint | None:
    """Read the weights that are given or shipped; None if random weights are requested."""
    if request.random_weights:
        return None
    if request.weights:
        checkpoint = with_our_names(read_weights(request.weights))
        if checkpoint.card and checkpoint.card.model != name:
            raise WeightsError(f"weights '{checkpoint.path}' are of '{checkpoint.card.model}', expected '{name}'")
        return checkpoint
    shipped = shipped_weights()
    if name not in shipped:
        raise UsageError(
            f"no weights are shipped for '{name}' (shipped: {', '.join(shipped) or 'none'}); "
            "give --weights FILE, or --random-weights to try the conversion alone"
        )
    return read_weights(shipped[name])


def _labels(spec: ModelSpec, request: LoadRequest, checkpoint: Checkpoint | None) -> tuple[str, ...]:
    card = checkpoint.card if checkpoint else None
    classes = _class_count(spec, checkpoint) if checkpoint else _CLASSES_WITHOUT_WEIGHTS
    labels = request.labels or (card.labels if card else None) or _numbered(classes)
    if checkpoint and len(labels) != classes:
        raise WeightsError(
            f"weights '{checkpoint.path}' have {classes} classes, but {len(labels)} labels were given; "
            "give a labels file with one line per class, or train a new classifier first with edgeact train --init"
        )
    return labels


def _class_count(spec: ModelSpec, checkpoint: Checkpoint) -> int:
    """Return the number of classes the weights were trained for: the rows of their classifier."""
    classifier = checkpoint.tensors.get(f"{spec.classifier}.weight")
    if classifier is None or classifier.ndim != 2:
        raise WeightsError(
            f"weights '{checkpoint.path}' do not fit '{spec.name}': expected its classifier '{spec.classifier}.weight' "
            f"of two dimensions, got {_listed(checkpoint.tensors)}; check the model's name"
        )
    return len(classifier)


def _rebuild_pruned(module: nn.Module, checkpoint: Checkpoint | None) -> None:
    """Apply the prunings that the checkpoint's model card lists."""
    for plan in checkpoint.card.pruning if checkpoint and checkpoint.card else ():
        apply_cuts(module, plan.cuts)


def _clip(request: LoadRequest, default: ClipSpec) -> ClipSpec:
    return resized_clip(
        request.clip or default,
        clip_frames=request.clip_frames,
        size=request.size,
        resize=request.resize,
        fps=request.fps,
        pixels=request.pixels,
    )


def _assumed_clip(request: LoadRequest, clip: ClipSpec) -> tuple[ModelNote, ...]:
    """Return a note on the clip of a user's module if parts of the clip were not given."""
    given = {
        "--clip-frames": request.clip_frames,
        "--fps": request.fps,
        "--size": request.size,
        "--resize": request.resize,
        "--mean": request.pixels.mean,
        "--std": request.pixels.std,
        "--channel-order": request.pixels.channel_order,
    }
    missing = [option for option, value in given.items() if value is None]
    if request.clip or not missing:
        return ()
    return (AssumedClip(clip=clip, options=tuple(missing)),)


def _provenance(request: LoadRequest, notes: tuple[ModelNote, ...]) -> dict[str, str]:
    if request.weights:
        return {"weights": "; ".join(map(phrase, notes)) or f"{request.weights.name}, without a model card"}
    return {"weights": f"random, seed {request.seed}: figures of accuracy mean nothing"}


def _listed(tensors: Mapping[str, torch.Tensor], most: int = 5) -> str:
    return ", ".join([*list(tensors)[:most], *(["..."] if len(tensors) > most else [])]) or "no tensor at all"


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(count))
