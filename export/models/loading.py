"""The one door through which every model comes: a registry name, 'package.module:factory', or a module object."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from edgeact.clip import ClipSpec
from edgeact.errors import DataError, ModelError, UsageError, WeightsError
from edgeact.export.models.registry import MODELS, find_model
from edgeact.export.models.spec import resized_clip
from edgeact.export.weights import Weights, fill, read_weights, shipped_weights

__all__ = ["DEFAULT_MODEL", "LoadRequest", "LoadedModel", "load_model", "read_labels"]

DEFAULT_MODEL = "msf-r3d-fsam"
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


def load_model(source: str | nn.Module | None, request: LoadRequest | None = None) -> LoadedModel:
    """Build and fill a model, then prove with one forward pass that it takes its clip and returns its classes.

    Raises UnknownNameError, UsageError, WeightsError or ModelError, each naming expected and got.
    """
    wanted = request or LoadRequest()
    if isinstance(source, nn.Module):
        loaded = _from_factory(type(source).__name__, lambda: source, wanted)
    elif source is not None and ":" in source:
        loaded = _from_factory(source, _factory(source), wanted)
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
    clip = _clip(request, card.clip if card else spec.clip)
    labels = request.labels or (card.labels if card else None) or _numbered(weights)
    options = spec.options(len(labels), width=request.width or (card.width if card else None), clip=clip)
    torch.manual_seed(request.seed)
    module = spec.build(options)
    if weights:
        _fill_classes(module, weights, labels)
    return LoadedModel(
        name,
        name,
        module.eval(),
        clip,
        labels,
        weights.sha256 if weights else _state_digest(module),
        weights is not None,
        {"width": options.width},
        card.provenance if card else _origin(request),
    )


def _from_factory(source: str, factory: Callable[[], object], request: LoadRequest) -> LoadedModel:
    module = factory()
    if not isinstance(module, nn.Module):
        raise ModelError(f"'{source}' must return a torch.nn.Module, got {type(module).__name__}")
    weights = read_weights(request.weights) if request.weights else None
    if weights:
        fill(module, weights)
    clip = _clip(request, MODELS[_USER_CLIP].clip)
    module.eval()
    labels = request.labels or tuple(f"class {index}" for index in range(_classes_of(source, module, clip)))
    name = source.partition(":")[2] or source
    origin = {} if weights else {"weights": "as the factory made them"}
    digest = weights.sha256 if weights else _state_digest(module)
    return LoadedModel(name, source, module, clip, labels, digest, not request.random_weights, {}, origin)


def _weights_for(name: str, request: LoadRequest) -> Weights | None:
    if request.weights:
        return read_weights(request.weights)
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
    return resized_clip(clip, clip_frames=request.clip_frames, size=request.size, fps=request.fps)


def _numbered(weights: Weights | None) -> tuple[str, ...]:
    """'class 0', 'class 1', ... as many as the weights' last matrix has rows; the papers' 101 without weights."""
    count = 101
    if weights:
        matrices = [tensor for tensor in weights.tensors.values() if tensor.ndim == 2]
        if not matrices:
            raise WeightsError(f"weights '{weights.path}' hold no linear layer to count classes by; give --labels FILE")
        count = matrices[-1].shape[0]
    return tuple(f"class {index}" for index in range(count))


def _fill_classes(module: nn.Module, weights: Weights, labels: tuple[str, ...]) -> None:
    heads = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    own = {id(parameter): name for name, parameter in module.named_parameters()}
    head = own[id(heads[-1].bias)] if heads[-1].bias is not None else None
    tensor = weights.tensors.get(head) if head else None
    if tensor is not None and len(tensor) != len(labels):
        raise WeightsError(
            f"weights '{weights.path}' have {len(tensor)} classes, but {len(labels)} labels were given; "
            "give a labels file with one line per class"
        )
    fill(module, weights)


def _factory(source: str) -> Callable[[], object]:
    module_name, _, attribute = source.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does, so that a module beside the caller is found
    try:
        target = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"cannot import '{module_name}' of '{source}': {error}; run from its folder or install it"
        ) from error
    except AttributeError as error:
        raise UsageError(f"'{module_name}' has no attribute '{attribute}'; expected package.module:factory") from error
    if not callable(target):
        raise UsageError(f"'{source}' is not callable; expected a function that returns a torch.nn.Module")
    factory: Callable[[], object] = target
    return factory


def _classes_of(source: str, module: nn.Module, clip: ClipSpec) -> int:
    try:
        with torch.no_grad():
            logits = module(torch.zeros(clip.input_shape))
    except (RuntimeError, ValueError, TypeError) as error:
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
        f"'{source}' does not take a clip of shape {clip.input_shape} (N, C, T, H, W): {str(error).splitlines()[0]}; "
        "set --clip-frames and --size to what it was trained with"
    )


def _state_digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _origin(request: LoadRequest) -> dict[str, str]:
    return {"weights": f"random, seed {request.seed}: figures of accuracy mean nothing"}


def read_labels(path: Path) -> tuple[str, ...]:
    """One label a line, UTF-8, empty lines ignored; DataError where there is none or one stands twice."""
    if not path.is_file():
        raise DataError(f"labels file '{path}' does not exist; expected a text file with one label a line")
    labels = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if not labels:
        raise DataError(f"labels file '{path}' is empty; expected one label a line")
    if len(set(labels)) != len(labels):
        twice = sorted({label for label in labels if labels.count(label) > 1})
        raise DataError(f"labels file '{path}': {', '.join(twice)} stand twice; labels must be unique")
    return labels
