"""What a pruning takes away, written down before it is done: serialisable, and all that rebuilding needs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

__all__ = [
    "IMPORTANCES",
    "Importance",
    "KeptChannels",
    "LayerCut",
    "LayerRow",
    "PlanLatency",
    "PruningPlan",
    "Scope",
    "UnprunedLayer",
]

Importance = Literal["l2", "taylor", "bn-scale"]
IMPORTANCES: tuple[Importance, ...] = ("l2", "taylor", "bn-scale")
Scope = Literal["global", "layer"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KeptChannels(_Part):
    """Which of `before` channels stay."""

    before: int = Field(gt=0)
    mask: str = Field(pattern=r"^[0-9a-f]+$")
    """Hexadecimal; bit i, counted from the lowest, is channel i."""

    @classmethod
    def of(cls, before: int, indices: list[int]) -> KeptChannels:
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
    outputs: KeptChannels | None = None
    inputs: KeptChannels | None = None


class LayerRow(_Part):
    """A layer that changes, before and after; a clip's multiply-accumulates."""

    layer: str
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    moved: tuple[int, int] = (0, 0)
    """Elements read and written: inputs, weights, outputs."""


class UnprunedLayer(_Part):
    """Layers whose output channels all stay, and why."""

    layer: str
    reason: str


class PlanLatency(_Part):
    """Milliseconds of one clip before and after a pruning."""

    layers: dict[str, tuple[float, float]]
    """By layer, as far as it could be told apart."""
    rest: tuple[float, float] | None
    """Everything else: sums, splits, pooling, copies; None where only layers are known."""
    network: tuple[float, float]
    """The whole network."""
    measured: bool
    """False: estimated from the device's peak rates."""
    how: str
    """Of what, by what, on what."""


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
    step: tuple[int, int] = (1, 1)
    """The how manieth of how many steps that prune a model together; their ratios are all of the unpruned widths."""
    weights_sha256: str = ""
    """Of the weights that are pruned; empty where nobody told."""
    parameters: tuple[int, int]
    macs: tuple[int, int]
    moved: tuple[int, int] = (0, 0)
    """Elements that layers read and write."""
    rows: tuple[LayerRow, ...]
    skipped: tuple[UnprunedLayer, ...]
    cuts: tuple[LayerCut, ...]
    """All of what changes: with the unpruned module's constructor it makes the pruned one's shapes."""

    @property
    def provenance(self) -> dict[str, str]:
        """What a model card says of where pruned weights come from."""
        asked = f"{self.ratio:g}" + "".join(f", {name} {ratio:g}" for name, ratio in sorted(self.ratios.items()))
        if self.step != (1, 1):
            asked += f" (step {self.step[0]} of {self.step[1]})"
        return {
            "pruned_from_weights": self.weights_sha256 or "unknown",
            "pruning_ratio": asked,
            "pruning_scope": self.scope,
            "pruning_importance": self.importance,
            "pruning_channel_multiple": str(self.channel_multiple),
        }

    def table(self, latency: PlanLatency | None = None) -> RenderableType:
        """For the terminal: every layer that changes, those that do not, the sums; below it why layers stay."""
        table = Table("layer", "in", "out", "MMACs", "parameters")
        if latency:
            table.add_column("ms" if latency.measured else "~ms")
        table.add_column("stays")
        for column in table.columns[1:]:
            column.justify = "right"
        times = {name: [_milliseconds(pair)] for name, pair in latency.layers.items()} if latency else {}
        unknown = [""] if latency else []
        marks: dict[str, str] = {}
        reasons = {one.layer: marks.setdefault(one.reason, f"[{len(marks) + 1}]") for one in self.skipped}
        for row in self.rows:
            facts = (_change(row.inputs), _change(row.outputs), _millions(row.macs), _change(row.parameters))
            table.add_row(row.layer, *facts, *times.get(row.layer, unknown), escape(reasons.pop(row.layer, "")))
        for layer, mark in reasons.items():
            table.add_row(layer, "", "", "", "", *times.get(layer, unknown), escape(mark))
        table.add_section()
        if latency and latency.rest:
            table.add_row("sums, splits, copies ...", "", "", "", "", _milliseconds(latency.rest))
        network = [_milliseconds(latency.network)] if latency else []
        table.add_row("all", "", "", _millions(self.macs), _change(self.parameters), *network)
        title = [f"ms {'measured' if latency.measured else 'ESTIMATED'}: {escape(latency.how)}"] if latency else []
        return Group(*title, table, *(escape(f"{mark} {reason}") for reason, mark in marks.items()))


def _millions(pair: tuple[int, int]) -> str:
    return f"{pair[0] / 1e6:,.1f} → {pair[1] / 1e6:,.1f}"


def _milliseconds(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.3f} → {pair[1]:.3f}"


def _change(pair: tuple[int, int]) -> str:
    before, after = pair
    return f"{before:,}" if before == after else f"{before:,} → {after:,}"
