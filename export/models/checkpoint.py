"""Weights on disk: safetensors with a model card in the header; foreign `.pt` files only as plain tensors."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edgeact.clip import ClipSpec
from edgeact.errors import MissingWeightsError, WeightsError
from edgeact.export.models.pruning.plan import PruningPlan
from edgeact.storage import write_bytes

__all__ = [
    "Checkpoint",
    "ModelCard",
    "file_sha256",
    "load_weights",
    "read_weights",
    "shipped_weights",
    "state_sha256",
    "tensors_sha256",
    "write_weights",
]

_CARD_KEY = "edgeact"
_LISTED = 5
_SHIPPED = Path(__file__).parent / "weights"


class ModelCard(BaseModel):
    """Model, labels, clip contract and provenance of a weights file: JSON in the safetensors header."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    schema_version: str = "1.0"
    model: str
    width: int
    labels: tuple[str, ...]
    clip: ClipSpec
    provenance: Mapping[str, str] = Field(default_factory=dict)
    pruning: tuple[PruningPlan, ...] = ()
    """Prunings of the model as built, in order; with them the weights' shapes are rebuilt."""

    def pruned_by(self, plan: PruningPlan) -> ModelCard:
        """Return the card of the same model with `plan` applied, and the pruning in its provenance."""
        plans = (*self.pruning, plan)
        lineage = {key: "; ".join(plan.provenance[key] for plan in plans) for key in plan.provenance}
        return self.model_copy(update={"pruning": plans, "provenance": {**self.provenance, **lineage}})


class Checkpoint(BaseModel):
    """A state dict with its model card, if any."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    tensors: Mapping[str, Tensor]
    card: ModelCard | None
    sha256: str
    path: Path
    naming: str | None = None
    """The package whose tensor names the file has, if `tensors` was renamed from them; else None."""


def write_weights(path: str | Path, module: nn.Module, card: ModelCard) -> None:
    """Write the module's state dict, each tensor in its dtype, and its card as safetensors, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    write_bytes(path, save(tensors, metadata={_CARD_KEY: card.model_dump_json()}))


def read_weights(path: str | Path) -> Checkpoint:
    """Read `.safetensors`, or `.pt`/`.pth` with `weights_only=True` (no code of the file is run).

    Raises WeightsError for a missing, unreadable or non-finite file.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingWeightsError(f"weights '{file}' do not exist; expected a .safetensors, .pt or .pth file")
    if file.suffix == ".safetensors":
        tensors, card = _read_safetensors(file)
    elif file.suffix in (".pt", ".pth"):
        tensors, card = _read_torch(file), None
    else:
        raise WeightsError(f"weights '{file}': expected a .safetensors, .pt or .pth file, got '{file.suffix}'")
    _check_finite(file, tensors)
    return Checkpoint(tensors=tensors, card=card, sha256=file_sha256(file), path=file)


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], ModelCard | None]:
    try:
        with safe_open(file, framework="pt") as handle:
            text = (handle.metadata() or {}).get(_CARD_KEY)
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118  # no mapping
        return tensors, ModelCard.model_validate_json(text) if text else None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"weights '{file}' are not readable as safetensors: {error}") from error
    except ValidationError as error:
        raise WeightsError(f"weights '{file}' carry a model card this version cannot read: {error}") from error


def _why_unread(error: Exception) -> str:
    """Return why a file is unreadable; torch's messages, many colored lines, advise to run the file's code."""
    if isinstance(error, pickle.UnpicklingError):
        return "the file holds pickled code (a whole model or other objects), which is never run here, or is damaged"
    return f"it is damaged or no file of torch.save ({type(error).__name__})"


def _read_torch(file: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # an unreadable file raises anyway
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # reading a broken or foreign pickle can raise anything
        raise WeightsError(
            f"weights '{file}' are not a plain state dict: {_why_unread(error)}; save tensors only, with "
            "torch.save(model.state_dict(), 'weights.pth') or as .safetensors, and try again"
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise WeightsError(f"weights '{file}': expected a state dict of tensors, got {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise WeightsError(
                f"weights '{file}': expected a state dict of tensors, got {type(value).__name__} in '{name}'; "
                "save `model.state_dict()` and try again"
            )
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def _check_finite(file: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"weights '{file}': tensor '{name}' holds NaN or infinity; train or export it again")


def load_weights(module: nn.Module, weights: Checkpoint) -> None:
    """Load `weights` into `module`; every name and shape must match.

    Raises WeightsError listing what is missing, unexpected or of another shape: the first few of each, or every one
    of a file from another package.
    """
    state = module.state_dict()
    missing = sorted(set(state) - set(weights.tensors))
    unexpected = sorted(set(weights.tensors) - set(state))
    other = [
        f"{name}: expected {tuple(state[name].shape)}, got {tuple(tensor.shape)}"
        for name, tensor in weights.tensors.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if not (missing or unexpected or other):
        module.load_state_dict(weights.tensors)
        return
    most = _LISTED if weights.naming is None else len(state) + len(weights.tensors)
    parts = [f"{title} {_listed(names, most)}" for title, names in _titled(missing, unexpected, other) if names]
    raise WeightsError(
        f"weights '{weights.path}' do not fit the model: {'; '.join(parts)}; "
        "check the model's name, width, number of classes and clip size"
    )


def _titled(missing: list[str], unexpected: list[str], other: list[str]) -> tuple[tuple[str, list[str]], ...]:
    return (("missing", missing), ("unexpected", unexpected), ("other shapes", other))


def _listed(names: list[str], most: int) -> str:
    return f"({len(names)}) " + ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def shipped_weights() -> dict[str, Path]:
    """Return the files of weights that come with the package, by model name."""
    return {file.stem: file for file in sorted(_SHIPPED.glob("*.safetensors"))}


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def state_sha256(module: nn.Module) -> str:
    """Return the SHA-256 of a module's parameters and buffers, names included; for weights that are in no file."""
    return tensors_sha256(module.state_dict())


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the `state_sha256` of a module with these tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
