"""A pruning as data: which channels of each layer remain, serializable, and all that rebuilding a model needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "IMPORTANCES",
    "Importance",
    "KeptChannels",
    "LayerCut",
    "LayerRow",
    "PlanLatency",
    "PruningPlan",
    "Scope",
    "Side",
    "UnprunedLayer",
]

Importance = Literal["l2", "taylor", "bn-scale"]
IMPORTANCES: tuple[Importance, ...] = ("l2", "taylor", "bn-scale")
Scope = Literal["global", "layer"]
Side = Literal["outputs", "inputs"]


class _PlanModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KeptChannels(_PlanModel):
    """Which channels of one side of a layer remain."""

    before: int = Field(gt=0)
    """Number of channels before the cut."""
    mask: str = Field(pattern=r"^[0-9a-f]+$")
    """Hexadecimal; bit i, counted from the lowest, is set if channel i remains."""

    @classmethod
    def of(cls, before: int, indices: list[int]) -> KeptChannels:
        """Keep the channels `indices` of `before`."""
        return cls(before=before, mask=f"{sum(1 << index for index in set(indices)):x}")

    @property
    def indices(self) -> list[int]:
        """Channels that remain, ascending."""
        bits = int(self.mask, 16)
        return [index for index in range(self.before) if bits >> index & 1]

    @property
    def share(self) -> float:
        """Share of the channels that remain, in (0, 1]."""
        return len(self.indices) / self.before


class LayerCut(_PlanModel):
    """What remains of one layer; a side that is None keeps all channels."""

    layer: str
    outputs: KeptChannels | None = None
    inputs: KeptChannels | None = None


class LayerRow(_PlanModel):
    """Counts of one changed layer as pairs (before, after), multiply-accumulates per clip."""

    layer: str
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    moved: tuple[int, int] = (0, 0)
    """Elements read and written: inputs, weights, outputs."""


class UnprunedLayer(_PlanModel):
    """A layer that keeps all output channels."""

    layer: str
    reason: str
    """In English."""
    kind: str = ""
    """Of `edgeact.pruning_reasons.ReasonKind`; empty in plans written before version 1.1."""


class PlanLatency(_PlanModel):
    """Milliseconds per clip as pairs (before, after) a pruning."""

    layers: Mapping[str, tuple[float, float]]
    """By layer, if the layer could be attributed."""
    rest: tuple[float, float] | None
    """Sums, splits, pooling and copies; None if only layers are known."""
    network: tuple[float, float]
    """The whole network."""
    measured: bool
    """False: estimated from the device's peak rates."""
    how: str
    """Graph, library and device."""


class PruningPlan(_PlanModel):
    """One pruning of a whole model; pairs are (before, after)."""

    schema_version: str = "1.0"
    input_shape: tuple[int, ...]
    ratio: float
    """Requested share of channels to remove."""
    ratios: Mapping[str, float] = Field(default_factory=dict)
    """Requested share by layer name pattern."""
    scope: Scope
    importance: Importance
    channel_multiple: int
    step: tuple[int, int] = (1, 1)
    """(step, total steps) of iterative pruning; ratios refer to the unpruned widths."""
    weights_sha256: str = ""
    """SHA-256 of the weights before this pruning; empty if unknown."""
    parameters: tuple[int, int]
    macs: tuple[int, int]
    moved: tuple[int, int] = (0, 0)
    """Elements read and written by layers."""
    rows: tuple[LayerRow, ...]
    skipped: tuple[UnprunedLayer, ...]
    """Layers that keep all output channels."""
    cuts: tuple[LayerCut, ...]
    """Applied to the unpruned module they give the pruned module's shapes."""

    @property
    def provenance(self) -> dict[str, str]:
        """Entries of a model card that say how its weights were pruned."""
        ratios = f"{self.ratio:g}" + "".join(f", {name} {ratio:g}" for name, ratio in sorted(self.ratios.items()))
        if self.step != (1, 1):
            ratios += f" (step {self.step[0]} of {self.step[1]})"
        return {
            "pruned_from_weights": self.weights_sha256 or "unknown",
            "pruning_ratio": ratios,
            "pruning_scope": self.scope,
            "pruning_importance": self.importance,
            "pruning_channel_multiple": str(self.channel_multiple),
        }
