"""Format a benchmark report: a table for the terminal, and Markdown for the documentation."""

from __future__ import annotations

from rich.table import Table

from tests.benchmarks.records import BenchReport, BenchRow

__all__ = ["console_table", "markdown"]

_COLUMNS = ("what", "value", "limit", "verdict", "how")


def console_table(report: BenchReport) -> Table:
    """Return a table of all rows, the missed limits in red."""
    table = Table(*_COLUMNS, title=_title(report), caption="\n".join(report.notes) or None, caption_style="bold yellow")
    for row in report.rows:
        table.add_row(*_cells(row), style="red" if row.passed is False else "dim" if row.limit is None else None)
    return table


def markdown(report: BenchReport) -> str:
    """Return the report as a Markdown section, notes first."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(report.machine.versions.items()))
    lines = [f"# {_title(report)}", ""]
    lines += [f"{report.machine.processor}, {report.machine.cores} cores, {report.created_utc}. {versions}.", ""]
    lines += [f"> **{note}**\n" for note in report.notes]
    if report.durations:
        parts = ", ".join(f"{part.benchmark} {part.seconds:.0f} s" for part in report.durations)
        lines += [f"Wall time {sum(part.seconds for part in report.durations):.0f} s: {parts}.", ""]
    lines += ["| " + " | ".join(_COLUMNS) + " |", "|" + " --- |" * len(_COLUMNS)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |" for row in report.rows]
    return "\n".join(lines) + "\n"


def _title(report: BenchReport) -> str:
    settings = report.settings
    return f"Benchmarks, width {settings.width}, {settings.threads} threads, {settings.rounds} rounds"


def _cells(row: BenchRow) -> tuple[str, ...]:
    bounds = f" ({_number(row.interval.low)} to {_number(row.interval.high)})" if row.interval else ""
    limit = "" if row.limit is None else f"{row.comparison} {_number(row.limit)} {row.unit}".rstrip()
    verdict = {True: "pass", False: "MISSED", None: "not judged" if row.limit is not None else ""}[row.passed]
    return (row.name, f"{_number(row.value)} {row.unit}".rstrip() + bounds, limit, verdict, row.how)


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
