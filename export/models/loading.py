"""The one door through which every model comes: a registry name, 'package.module:factory', or a module object."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from edgeact.clip import ClipSpec
from edgeact.errors import DataError, EdgeactError, MissingLabelsError, ModelError, UsageError, WeightsError
from edgeact.export.models.checkpoint import Checkpoint, load_weights, read_weights, shipped_weights, state_sha256
from edgeact.export.models.checkpoint_names import fill_missing, trained_clip, with_our_names
from edgeact.export.models.pruning.apply import apply_cuts
from edgeact.export.models.pruning.plan import PruningPlan
from edgeact.export.models.registry import MODELS, find_model
from edgeact.export.models.spec import ModelSpec, Pixels, resized_clip
from edgeact.export.models.synthetic import calibrate_batch_norm

__all__ = ["DEFAULT_MODEL", "LoadRequest", "LoadedModel", "load_model", "read_labels"]

DEFAULT_MODEL = "msf-r3d-fsam"
_CLASSES_WITHOUT_WEIGHTS = 101  # the papers' figures are those of UCF-101
_USER_CLIP = "msf-r3d-fsam"  # a user's own module gets this row's preprocessing unless told otherwise


@dataclass(frozen=True)
class LoadRequest:
    """How a model is to be loaded; None means: as the weights' card, else the paper, has it."""

    weights: Path | None = None
    labels: tuple[str, ...] | None = None
    width: int | None = None
    clip: ClipSpec | None = None
    clip_frames: int | None = None
    size: int | None = None
    fps: float | None = None
    resize: tuple[int, int] | None = None
    """(height, width) before the crop, pixels."""
    pixels: Pixels = field(default_factory=Pixels)
    random_weights: bool = False
    seed: int = 0


@dataclass(frozen=True)
class LoadedModel:
    """A module in evaluation mode with everything the exporter needs to know of it."""

    name: str
    source: str
    module: nn.Module
    clip: ClipSpec
    labels: tuple[str, ...]
    weights_sha256: str
    trained: bool
    """False for random weights, whose accuracy means nothing."""
    options: dict[str, str | int | float | bool] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What the user should know of how it was loaded."""
    pruning: tuple[PruningPlan, ...] = ()
    """What had been taken out before these weights were written."""


def load_model(source: str | nn.Module | None, request: LoadRequest | None = None) -> LoadedModel:
    """Build and fill a model, then prove with one forward pass that it takes its clip and returns its classes.

    A module given as such is used itself, not copied: it is filled, moved to the CPU and put in evaluation mode.
    Raises UnknownNameError, UsageError, WeightsError or ModelError, each naming expected and got.
    """
    wanted = request or LoadRequest()
    if wanted.weights and wanted.random_weights:
        raise UsageError(f"expected either weights or random weights, got both ('{wanted.weights}' and random)")
    if isinstance(source, nn.Module):
        loaded = _from_module(type(source).__name__, source, wanted)
    elif source is not None and ":" in source:
        loaded = _from_module(source, _called(source), wanted)
    else:
        loaded = _from_registry(source, wanted)
    _check_forward(loaded)
    return loaded


def _from_registry(source: str | None, request: LoadRequest) -> LoadedModel:
    name = source or DEFAULT_MODEL
    spec = find_model(name)
    weights = _weights_for(name, request)
    card = weights.card if weights else None
    if weights and card and card.model != name:
        raise WeightsError(f"weights '{weights.path}' are of '{card.model}', expected '{name}'")
    clip = _clip(request, trained_clip(weights, spec.clip))
    trained_on = _class_count(spec, weights) if weights else _CLASSES_WITHOUT_WEIGHTS
    labels = request.labels or (card.labels if card else None) or _numbered(trained_on)
    if weights and len(labels) != trained_on:
        raise WeightsError(
            f"weights '{weights.path}' have {trained_on} classes, but {len(labels)} labels were given; "
            "give a labels file with one line per class, or train a new classifier first with edgeact train --init"
        )
    options = spec.config(len(labels), width=request.width or (card.width if card else None), clip=clip)
    torch.manual_seed(request.seed)
    module = spec.build(options)
    _rebuild_pruned(module, weights)
    notes: tuple[str, ...] = ()
    if weights:
        weights, notes = fill_missing(weights, spec, options, module)
        load_weights(module, weights)
    else:
        calibrate_batch_norm(module, clip, request.seed)
    return LoadedModel(
        name,
        name,
        module.eval(),
        clip,
        labels,
        weights.sha256 if weights else state_sha256(module),
        weights is not None,
        {"width": options.width},
        card.provenance if card else _origin(request, notes),
        notes,
        card.pruning if card else (),
    )


def _from_module(source: str, module: object, request: LoadRequest) -> LoadedModel:
    if not isinstance(module, nn.Module):
        raise ModelError(f"'{source}' must return a torch.nn.Module, got {type(module).__name__}")
    weights = read_weights(request.weights) if request.weights else None
    card = weights.card if weights else None
    if weights:
        _rebuild_pruned(module, weights)
        load_weights(module, weights)
    clip = _clip(request, card.clip if card else MODELS[_USER_CLIP].clip)
    module.to("cpu").eval()
    labels = request.labels or (card.labels if card else None) or _numbered(_classes_of(source, module, clip))
    return LoadedModel(
        source.partition(":")[2] or source,
        source,
        module,
        clip,
        labels,
        weights.sha256 if weights else state_sha256(module),
        not request.random_weights,
        {},
        card.provenance if card else {} if weights else {"weights": "as the factory made them"},
        () if card else _assumed(request, clip),
        card.pruning if card else (),
    )


def _rebuild_pruned(module: nn.Module, weights: Checkpoint | None) -> None:
    """Take out what had been taken out of the module that `weights` are of."""
    for plan in weights.card.pruning if weights and weights.card else ():
        apply_cuts(module, plan.cuts)


def _weights_for(name: str, request: LoadRequest) -> Checkpoint | None:
    if request.weights:
        return with_our_names(read_weights(request.weights))
    if request.random_weights:
        return None
    shipped = shipped_weights()
    if name not in shipped:
        raise UsageError(
            f"no weights are shipped for '{name}' (shipped: {', '.join(shipped) or 'none'}); "
            "give --weights FILE, or --random-weights to try the conversion alone"
        )
    return read_weights(shipped[name])


def _clip(request: LoadRequest, default: ClipSpec) -> ClipSpec:
    clip = request.clip or default
    return resized_clip(
        clip,
        clip_frames=request.clip_frames,
        size=request.size,
        resize=request.resize,
        fps=request.fps,
        pixels=request.pixels,
    )


def _assumed(request: LoadRequest, clip: ClipSpec) -> tuple[str, ...]:
    """A note of what was assumed of a user's own module, where not all of its clip was stated."""
    stated = {
        "--clip-frames": request.clip_frames,
        "--fps": request.fps,
        "--size": request.size,
        "--resize": request.resize,
        "--mean": request.pixels.mean,
        "--std": request.pixels.std,
        "--channel-order": request.pixels.channel_order,
    }
    missing = [option for option, value in stated.items() if value is None]
    if request.clip or not missing:
        return ()
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (clip.mean, clip.std))
    return (
        f"assumed clip: {clip.clip_frames} frames at {clip.fps:g}/s, resize {clip.resize[0]}x{clip.resize[1]}, "
        f"crop {clip.crop[0]}x{clip.crop[1]}, {clip.channel_order}, mean {mean}, std {std}; "
        f"set {', '.join(missing)} where it was trained otherwise",
    )


def _class_count(spec: ModelSpec, weights: Checkpoint) -> int:
    """How many classes the weights were trained for: the rows of their classifier."""
    classifier = weights.tensors.get(f"{spec.classifier}.weight")
    if classifier is None or classifier.ndim != 2:
        raise WeightsError(
            f"weights '{weights.path}' do not fit '{spec.name}': expected its classifier '{spec.classifier}.weight' "
            f"of two dimensions, got {_listed(weights.tensors)}; check the model's name"
        )
    return len(classifier)


def _listed(tensors: Mapping[str, torch.Tensor], most: int = 5) -> str:
    return ", ".join([*list(tensors)[:most], *(["..."] if len(tensors) > most else [])]) or "no tensor at all"


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(count))


def _called(source: str) -> object:
    """What the factory 'package.module:factory' returns; found in the caller's folder too, as by `python -m`."""
    module_name, _, attribute = source.partition(":")
    if not (module_name and attribute):
        raise UsageError(f"expected package.module:factory, got '{source}'")
    if module_name.endswith(".py"):
        dotted = ".".join(part for part in Path(module_name).with_suffix("").parts if part not in (".", "/"))
        raise UsageError(
            f"expected package.module:factory, got the path of a file in '{source}'; write {dotted}:{attribute} "
            "and run from the folder that the path starts in"
        )
    with _caller_folder_on_path():
        try:
            module = importlib.import_module(module_name)
        except EdgeactError:  # a MissingExtraError is an ImportError that already says what to install
            raise
        except ImportError as error:
            raise UsageError(
                f"cannot import '{module_name}' of '{source}': {error}; run from its folder or install it"
            ) from error
        factory = getattr(module, attribute, None)
        if factory is None:
            raise UsageError(f"'{module_name}' has no attribute '{attribute}'; expected package.module:factory")
        if not callable(factory):
            raise UsageError(f"'{source}' is not callable; expected a function that returns a torch.nn.Module")
        try:
            return factory()
        except Exception as error:  # whatever the user's code raises
            raise ModelError(
                f"calling '{source}' without arguments raised {_first_line(error)}; "
                "expected a function that returns a torch.nn.Module"
            ) from error


@contextlib.contextmanager
def _caller_folder_on_path() -> Iterator[None]:
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before


def _classes_of(source: str, module: nn.Module, clip: ClipSpec) -> int:
    try:
        with torch.no_grad():
            logits = module(torch.zeros(clip.input_shape))
    except EdgeactError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise ModelError(_refused(source, clip, error)) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or logits.shape[0] != 1:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(f"'{source}' must return one tensor of logits (1, classes), got {got}")
    return int(logits.shape[1])


def _check_forward(loaded: LoadedModel) -> None:
    count = _classes_of(loaded.source, loaded.module, loaded.clip)
    if count != len(loaded.labels):
        raise ModelError(
            f"'{loaded.source}' returns {count} logits, but there are {len(loaded.labels)} labels; "
            "give --labels FILE with one line per class"
        )
    for name, tensor in loaded.module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"'{loaded.source}': tensor '{name}' holds NaN or infinity")


def _refused(source: str, clip: ClipSpec, error: Exception) -> str:
    return (
        f"'{source}' does not take a clip of shape {clip.input_shape} (N, C, T, H, W): {_first_line(error)}; "
        "set --clip-frames and --size to what it was trained with"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _origin(request: LoadRequest, notes: tuple[str, ...]) -> dict[str, str]:
    if request.weights:
        return {"weights": "; ".join(notes) or f"{request.weights.name}, without a model card"}
    return {"weights": f"random, seed {request.seed}: figures of accuracy mean nothing"}


def read_labels(path: Path) -> tuple[str, ...]:
    """One label a line, UTF-8, empty lines ignored; DataError where there is none or one stands twice."""
    if not path.is_file():
        raise MissingLabelsError(f"labels file '{path}' does not exist; expected a text file with one label a line")
    labels = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if not labels:
        raise DataError(f"labels file '{path}' is empty; expected one label a line")
    if len(set(labels)) != len(labels):
        twice = sorted({label for label in labels if labels.count(label) > 1})
        raise DataError(f"labels file '{path}': {', '.join(twice)} stand twice; labels must be unique")
    return labels
