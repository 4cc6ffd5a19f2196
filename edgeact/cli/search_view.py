"""Progress and result of a search: the Pareto front live in a terminal, one line a trial in a log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from edgeact.cli.output import note
from edgeact.progress import Callbacks
from edgeact.report.formatting import drop_text, ms, percent, stages_text

if TYPE_CHECKING:
    from edgeact.records import SearchRecord, SearchTrial

__all__ = ["front_table", "search_callbacks"]


@contextlib.contextmanager
def search_callbacks() -> Iterator[Callbacks]:
    """Yield callbacks that show a search on standard error: a live table in a terminal, lines elsewhere."""
    console = Console(stderr=True)
    if not (console.is_interactive and console.file.isatty()):
        yield _callbacks(_Log())
        return
    with Live(console=console, auto_refresh=False) as live:  # redrawn by callbacks only, so never while timing
        yield _callbacks(_Board(live))


class _View(Protocol):
    def progress(self, title: str, done: int, total: int) -> None:
        """Show that `done` of `total` of the step `title` are done."""

    def note(self, text: str) -> None:
        """Show a sentence."""

    def trial(self, record: SearchRecord, trial: SearchTrial) -> None:
        """Show a finished trial; `record` contains it."""


def _callbacks(view: _View) -> Callbacks:
    from edgeact.export.search import TrialFinished

    def on_event(event: object) -> None:
        if isinstance(event, TrialFinished):
            view.trial(event.record, event.trial)

    return Callbacks(view.progress, view.note, on_event)


class _Log:
    """One line for every step and every trial."""

    def __init__(self) -> None:
        self._title = ""

    def progress(self, title: str, done: int, total: int) -> None:
        if title != self._title:
            self._title = title
            note(escape(title))

    def note(self, text: str) -> None:
        note(text)

    def trial(self, record: SearchRecord, trial: SearchTrial) -> None:
        done = f"{len(record.trials)} of {record.wanted_trials} finished"
        if trial.failure:
            note(escape(f"trial {trial.number} failed ({done}): {trial.failure}"))
            return
        place = "on the front" if trial.number in record.front else "dominated"
        latency = f"{_latency(trial)} ms{' (estimate)' if record.is_estimate else ''}"
        note(escape(f"trial {trial.number}, {place} ({done}): {latency}, points lost {drop_text(trial.drop)}"))


class _Board:
    """The Pareto front so far, with the step under way below it."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._front: RenderableType = ""
        self._status = ""

    def progress(self, title: str, done: int, total: int) -> None:
        self._status = f"{title} {done}/{total}" if total else title
        self._draw()

    def note(self, text: str) -> None:
        self._live.console.print(text, style="dim", highlight=False)

    def trial(self, record: SearchRecord, trial: SearchTrial) -> None:
        if trial.failure:
            self.note(escape(f"trial {trial.number} failed: {trial.failure}"))
        self._front = front_table(record)
        self._draw()

    def _draw(self) -> None:
        self._live.update(Group(self._front, f"[dim]{escape(self._status)} ...[/]"), refresh=True)


def front_table(record: SearchRecord) -> RenderableType:
    """Return the Pareto front, fastest first: latency, top-1, accuracy drop with its interval, verdict, and choices."""
    title = (
        f"front of {len(record.trials)} of {record.wanted_trials} trials: {record.model} for {record.target}; "
        f"unpruned {percent(record.reference_top1)} % of {record.count} videos"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for header in ("trial", "latency ms", "top-1 %"):
        table.add_column(header, justify="right", no_wrap=True)
    for header in ("points lost (95 %)", "verdict", "pruned; INT8; clip"):
        table.add_column(header, no_wrap=header != "pruned; INT8; clip")
    for trial in record.on_front:
        drop = trial.drop
        cells = ("", "") if drop is None else (drop_text(drop).partition(";")[0], drop.verdict)
        top1 = "" if trial.top1 is None else percent(trial.top1)
        style = "green" if trial.number == record.chosen else "" if trial.within_budgets else "dim"
        table.add_row(str(trial.number), _latency(trial), top1, *cells, escape(stages_text(trial)), style=style)
    estimated = "~ is an estimate from the target's peak rates, never measured" if record.is_estimate else ""
    return Group(*(part for part in (escape(title), table, estimated) if part))


def _latency(trial: SearchTrial) -> str:
    if trial.latency_ms is None:
        return "-"
    return f"{'' if trial.latency else '~'}{ms(trial.latency_ms)}"
