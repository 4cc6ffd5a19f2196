"""Progress of a verb's long steps, on standard error: bars in a terminal, plain lines in a log."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edgeact.cli.output import note
from edgeact.progress import TIMED_STEP, Callbacks, OnProgress

__all__ = ["STARTING", "Steps", "callbacks_of", "steps"]

STARTING = "loading the libraries"
"""Title of the first step of a verb whose imports take seconds."""

_REDRAW_S = 0.25
_LINE_EVERY_S = 10.0
_LINES_A_STEP = 10


@contextlib.contextmanager
def steps() -> Iterator[Steps]:
    """Show the steps of a verb until the block ends; if the block fails, the step under way stays unfinished."""
    console = Console(stderr=True)
    is_live = console.is_interactive and console.file.isatty()  # a CI that forces colors is not a terminal
    with _bars(console) if is_live else contextlib.nullcontext(_Lines(console)) as view:
        shown = Steps(view)
        yield shown
        shown.end()


def callbacks_of(shown: Steps, on_event: Callable[[object], None] | None = None) -> Callbacks:
    """Return the callbacks that show progress through `shown` and print notes; `on_event` shows typed events."""
    return Callbacks(shown.advance, note, on_event) if on_event else Callbacks(shown.advance, note)


@dataclass
class _Step:
    title: str
    done: int = 0
    total: int = 0
    """0: unknown."""
    start_s: float = field(default_factory=time.perf_counter)

    @property
    def count(self) -> str:
        return f"{self.done}/{self.total}" if self.total else ""

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.start_s


class _View(Protocol):
    def begin(self, step: _Step) -> None:
        """Show a new step; the previous step has ended."""

    def move(self, step: _Step) -> None:
        """Show the progress of `step`."""

    def end(self, step: _Step) -> None:
        """Show that `step` is done."""


class Steps:
    """The steps of a verb, in sequence; `begin` and `advance` serve as callbacks of the other rooms."""

    def __init__(self, view: _View) -> None:
        self._view = view
        self._step: _Step | None = None

    def begin(self, title: str) -> None:
        """End the step under way and begin the step `title`, of unknown length."""
        self.end()
        self._step = _Step(title)
        self._view.begin(self._step)

    def advance(self, title: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done; a new title begins a new step."""
        if self._step is None or self._step.title != title:
            self.begin(title)
        if self._step and (done, total) != (self._step.done, self._step.total):
            self._step.done, self._step.total = done, total
            self._view.move(self._step)

    def of(self, title: str) -> OnProgress:
        """Return the callback that reports the progress of the step `title`."""
        return functools.partial(self.advance, title)

    def end(self) -> None:
        """End the step under way."""
        if self._step:
            self._view.end(self._step)
        self._step = None


class _Lines:
    """One line when a step begins, one when it ends, and a few in between if it is long."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_printed = _Step("")

    def begin(self, step: _Step) -> None:
        self._last_printed = _Step(step.title)
        self._print(f"{step.title} ...")

    def move(self, step: _Step) -> None:
        is_far = (step.done - self._last_printed.done) * _LINES_A_STEP >= step.total
        if is_far and self._last_printed.elapsed_s >= _LINE_EVERY_S and step.done < step.total:
            self._last_printed = _Step(step.title, step.done)
            self._print(f"{step.title}: {step.count} after {step.elapsed_s:.0f} s")

    def end(self, step: _Step) -> None:
        self._print(f"{step.title}: {step.count or 'done'} in {step.elapsed_s:.1f} s")

    def _print(self, text: str) -> None:
        self._console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


class _Bars:
    """One bar per step, redrawn by a thread, and during the timed step only when that step reports progress."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task = TaskID(0)
        self._over = threading.Event()
        self._may_redraw = threading.Event()
        self._redrawing = threading.Thread(target=self._redraw, daemon=True)

    def begin(self, step: _Step) -> None:
        self._task = self._bars.add_task(step.title, total=None, count="")
        if step.title == TIMED_STEP:
            self._may_redraw.clear()
        else:
            self._may_redraw.set()
        self._bars.refresh()

    def move(self, step: _Step) -> None:
        is_timed = not self._may_redraw.is_set()
        total = step.total or None
        self._bars.update(self._task, completed=step.done, total=total, count=step.count, refresh=is_timed)

    def end(self, step: _Step) -> None:
        total = step.total or 1  # a full bar, also if the length was unknown
        self._bars.update(self._task, completed=total, total=total, count=step.count, refresh=True)

    def __enter__(self) -> _Bars:
        self._bars.start()
        self._redrawing.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._may_redraw.set()
        self._redrawing.join()
        self._bars.stop()

    def _redraw(self) -> None:
        while not self._over.wait(_REDRAW_S):
            self._may_redraw.wait()
            if not self._over.is_set():
                self._bars.refresh()


def _bars(console: Console) -> _Bars:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return _Bars(Progress(*columns, console=console, auto_refresh=False))
