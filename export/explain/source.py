"""Load the PyTorch module of a weights file, a registry model or a bundle."""

from __future__ import annotations

from pathlib import Path

from edgeact.bundle import Bundle, open_bundle
from edgeact.errors import MissingWeightsError, UsageError, WeightsError
from edgeact.export.models.checkpoint import file_sha256, read_weights, shipped_weights
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from edgeact.export.models.registry import find_model

__all__ = ["open_model"]

_WEIGHTS = (".safetensors", ".pt", ".pth")


def open_model(source: str, weights: Path | None = None) -> LoadedModel:
    """Load the model of a weights file, of a registry model, or of a bundle.

    The model card of a weights file names its model. A registry model is loaded with `weights`, or with its shipped
    weights. A bundle holds graphs; the weights they were exported from are `weights`, or the shipped file with the
    SHA-256 that the bundle records. Raises UsageError, UnknownNameError, WeightsError or BundleError.
    """
    suffix = Path(source).suffix.lower()
    if suffix == ".edgeact":
        return _of_bundle(open_bundle(source), weights)
    if suffix in _WEIGHTS:
        return _of_weights(Path(source), weights)
    return _of_registry(source, weights)


def _of_weights(file: Path, weights: Path | None) -> LoadedModel:
    if weights:
        raise UsageError(f"expected one weights file, got '{file}' and --weights '{weights}'")
    card = read_weights(file).card
    if card is None:
        raise WeightsError(f"weights '{file}' carry no model card; name their model: MODEL VIDEO --weights '{file}'")
    return load_model(card.model, LoadRequest(weights=file))


def _of_registry(name: str, weights: Path | None) -> LoadedModel:
    if ":" in name:
        raise UsageError(f"expected a registry model, a weights file or a bundle, got '{name}'")
    model = find_model(name).name
    shipped = shipped_weights()
    if weights is None and model not in shipped:
        raise UsageError(f"no weights are shipped for '{model}' (shipped: {', '.join(shipped)}); give --weights FILE")
    return load_model(model, LoadRequest(weights=weights))


def _of_bundle(bundle: Bundle, weights: Path | None) -> LoadedModel:
    manifest = bundle.manifest
    model = manifest.model
    if ":" in model.source:
        raise UsageError(
            f"bundle '{bundle.path}': expected a bundle of a registry model, got one of '{model.source}', whose code "
            "is not run because a bundle names it; give the weights of a registry model"
        )
    width = model.options.get("width")
    request = LoadRequest(
        weights=_weights_of(bundle, weights),
        labels=manifest.labels,
        width=width if isinstance(width, int) else None,
        clip=manifest.clip,
    )
    return load_model(find_model(model.source).name, request)


def _weights_of(bundle: Bundle, weights: Path | None) -> Path:
    """Return the file whose SHA-256 the bundle records: `weights`, or a shipped file."""
    recorded = bundle.manifest.model.weights_sha256
    candidates = [weights] if weights else list(shipped_weights().values())
    for file in candidates:
        if file.is_file() and file_sha256(file) == recorded:
            return file
    if weights and not weights.is_file():
        raise MissingWeightsError(
            f"weights '{weights}' do not exist; expected the file that '{bundle.path}' was exported from"
        )
    if weights:
        raise WeightsError(
            f"weights '{weights}' are not those of '{bundle.path}': expected SHA-256 {recorded[:12]}..., got "
            f"{file_sha256(weights)[:12]}...; to draw these weights, give them in place of the bundle"
        )
    provenance = "; ".join(f"{key}: {value}" for key, value in sorted(bundle.manifest.model.provenance.items()))
    raise WeightsError(
        f"bundle '{bundle.path}' holds graphs, and the weights with its SHA-256 ({recorded[:12]}...) are not among the "
        f"shipped ones; give the file it was exported from with --weights FILE ({provenance or 'provenance unknown'})"
    )
