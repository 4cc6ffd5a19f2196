"""What a pruning takes away, written down before it is done: serialisable, and all that rebuilding needs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table

__all__ = ["IMPORTANCES", "Importance", "Kept", "LayerCut", "LayerRow", "PruningPlan", "Scope", "Skipped"]

Importance = Literal["l2", "taylor", "bn-scale"]
IMPORTANCES: tuple[Importance, ...] = ("l2", "taylor", "bn-scale")
Scope = Literal["global", "layer"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Kept(_Part):
    """Which of `before` channels stay."""

    before: int = Field(gt=0)
    mask: str = Field(pattern=r"^[0-9a-f]+$")
    """Hexadecimal; bit i, counted from the lowest, is channel i."""

    @classmethod
    def of(cls, before: int, indices: list[int]) -> Kept:
        """The channels `indices` of `before`."""
        return cls(before=before, mask=f"{sum(1 << index for index in set(indices)):x}")

    @property
    def indices(self) -> list[int]:
        """Channels that stay, ascending."""
        bits = int(self.mask, 16)
        return [index for index in range(self.before) if bits >> index & 1]


class LayerCut(_Part):
    """What stays of one layer; None: all of that side."""

    layer: str
    outputs: Kept | None = None
    inputs: Kept | None = None


class LayerRow(_Part):
    """A layer that changes, before and after; a clip's multiply-accumulates."""

    layer: str
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    parameters: tuple[int, int]
    macs: tuple[int, int]


class Skipped(_Part):
    """Layers whose output channels all stay, and why."""

    layer: str
    reason: str


class PruningPlan(_Part):
    """A pruning as a whole; pairs are before and after."""

    schema_version: str = "1.0"
    input_shape: tuple[int, ...]
    ratio: float
    """Share of channels asked to go."""
    ratios: dict[str, float] = Field(default_factory=dict)
    """The same for layers by name pattern."""
    scope: Scope
    importance: Importance
    channel_multiple: int
    weights_sha256: str = ""
    """Of the unpruned weights; empty where nobody told."""
    parameters: tuple[int, int]
    macs: tuple[int, int]
    rows: tuple[LayerRow, ...]
    skipped: tuple[Skipped, ...]
    cuts: tuple[LayerCut, ...]
    """All of what changes: with the unpruned module's constructor it makes the pruned one's shapes."""

    @property
    def provenance(self) -> dict[str, str]:
        """What a model card says of where pruned weights come from."""
        asked = f"{self.ratio:g}" + "".join(f", {name} {ratio:g}" for name, ratio in sorted(self.ratios.items()))
        return {
            "pruned_from_weights": self.weights_sha256 or "unknown",
            "pruning_ratio": asked,
            "pruning_scope": self.scope,
            "pruning_importance": self.importance,
            "pruning_channel_multiple": str(self.channel_multiple),
        }

    def table(self) -> Table:
        """For the terminal: every layer that changes, those that do not with the reason, and the sums."""
        table = Table("layer", "in", "out", "MMACs", "parameters", "stays, because")
        for column in table.columns[1:5]:
            column.justify = "right"
        for row in self.rows:
            mmacs = f"{row.macs[0] / 1e6:,.1f} → {row.macs[1] / 1e6:,.1f}"
            table.add_row(row.layer, _change(row.inputs), _change(row.outputs), mmacs, _change(row.parameters))
        for skipped in self.skipped:
            table.add_row(skipped.layer, "", "", "", "", skipped.reason)
        table.add_section()
        mmacs = f"{self.macs[0] / 1e6:,.1f} → {self.macs[1] / 1e6:,.1f}"
        table.add_row("all", "", "", mmacs, _change(self.parameters))
        return table


def _change(pair: tuple[int, int]) -> str:
    before, after = pair
    return f"{before:,}" if before == after else f"{before:,} → {after:,}"
