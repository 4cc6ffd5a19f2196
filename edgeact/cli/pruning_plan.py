"""A pruning plan as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from edgeact.export.models.pruning.plan import PlanLatency, PruningPlan

__all__ = ["plan_table"]


def plan_table(plan: PruningPlan, latency: PlanLatency | None = None) -> RenderableType:
    """Return a row per layer that changes or keeps all channels, and the totals; below it the reasons by number."""
    table = Table("layer", "in", "out", "MMACs", "parameters")
    if latency:
        table.add_column("ms" if latency.measured else "~ms")
    table.add_column("kept")
    for column in table.columns[1:]:
        column.justify = "right"
    times = {name: [_milliseconds(pair)] for name, pair in latency.layers.items()} if latency else {}
    unknown = [""] if latency else []
    marks: dict[str, str] = {}
    reasons = {layer.layer: marks.setdefault(layer.reason, f"[{len(marks) + 1}]") for layer in plan.skipped}
    for row in plan.rows:
        facts = (_change(row.inputs), _change(row.outputs), _millions(row.macs), _change(row.parameters))
        table.add_row(row.layer, *facts, *times.get(row.layer, unknown), escape(reasons.pop(row.layer, "")))
    for layer, mark in reasons.items():
        table.add_row(layer, "", "", "", "", *times.get(layer, unknown), escape(mark))
    table.add_section()
    if latency and latency.rest:
        table.add_row("sums, splits, copies", "", "", "", "", _milliseconds(latency.rest))
    network = [_milliseconds(latency.network)] if latency else []
    table.add_row("all", "", "", _millions(plan.macs), _change(plan.parameters), *network)
    title = [f"ms {'measured' if latency.measured else 'ESTIMATED'}: {escape(latency.how)}"] if latency else []
    return Group(*title, table, *(escape(f"{mark} {reason}") for reason, mark in marks.items()))


def _millions(pair: tuple[int, int]) -> str:
    return f"{pair[0] / 1e6:,.1f} → {pair[1] / 1e6:,.1f}"


def _milliseconds(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.3f} → {pair[1]:.3f}"


def _change(pair: tuple[int, int]) -> str:
    before, after = pair
    return f"{before:,}" if before == after else f"{before:,} → {after:,}"
