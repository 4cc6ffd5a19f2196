"""Table of the measured artifacts of a bundle, for `export` and `inspect`."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeact.records import Accuracy, Measurements, PairedDrop, Row
from edgeact.report.formatting import bytes_text, machine_name, ms, parity_text, percent

__all__ = ["rows_table"]

_STYLES = {"chosen": "green", "candidate": "cyan", "rejected": "dim", "reference": ""}


def rows_table(measured: Measurements) -> RenderableType:
    """Return a table of size, parity, top-1 with its interval, latency and verdict, with the reasons below."""
    machine = measured.machine
    title = f"measured {measured.created_utc} on {machine_name(machine)}, {machine.cores} cores; ~ is an estimate"
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for header in ("artifact", "prec."):
        table.add_column(header, no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for header in ("parity", "top-1 (95 %)"):
        table.add_column(header, no_wrap=True)
    table.add_column("p50 / p90 ms", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in measured.rows:
        table.add_row(*_cells(row), style=_STYLES[row.verdict])
    reasons: dict[str, list[str]] = {}
    for row in measured.rows:
        if row.verdict != "reference":
            reasons.setdefault(row.reason, []).append(row.artifact)
    lines = [f"{escape(', '.join(names))}: {escape(reason)}" for reason, names in reasons.items()]
    drops: dict[str, list[str]] = {}
    for row in measured.rows:
        if row.drop:
            drops.setdefault(_drop(row.drop), []).append(row.artifact)
    lines += [f"{escape(', '.join(names))} {text}" for text, names in drops.items()]
    return Group(escape(title), table, *lines)


def _drop(drop: PairedDrop) -> str:
    """Describe the accuracy drop of a pruned model's artifact with its confidence interval."""
    bounds = f"95 %: {drop.interval.low:+.1f} to {drop.interval.high:+.1f}"
    return (
        f"against the unpruned model on the same {drop.count} videos: {-drop.drop_points:+.1f} points "
        f"of top-1; the drop's {bounds}; {drop.max_drop_points:g} allowed: {drop.verdict}"
    )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        escape(row.artifact),
        row.precision,
        bytes_text(row.size_bytes),
        parity_text(row.parity).main,
        _top1(row.accuracy),
        _latency(row),
        row.verdict,
    )


def _top1(accuracy: tuple[Accuracy, ...]) -> str:
    """Format the top-1 of videos if measured, else of clips: the clips of one video are not independent trials."""
    best = sorted(accuracy, key=lambda item: item.level, reverse=True)
    if not best:
        return "-"
    interval = best[0].top1_interval
    return f"{percent(best[0].top1)} % ({percent(interval.low)}-{percent(interval.high)})"


def _latency(row: Row) -> str:
    if row.latency is None:
        return "-" if row.latency_estimate_ms is None else f"~{row.latency_estimate_ms:.2g}"
    p90 = row.latency.p90_ms
    return ms(row.latency.p50_ms) + ("" if p90 is None else f" / {ms(p90)}")
