"""Progress callbacks of long operations; each is called by the thread that runs the operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["TIMED_STEP", "Callbacks", "OnProgress", "OnStep", "counted", "titled"]

_Item = TypeVar("_Item")

OnProgress = Callable[[int, int], None]
"""`(done, total)` of one step: `done` never decreases and equals `total` in the last call if the step succeeds."""

OnStep = Callable[[str, int, int], None]
"""`(title, done, total)` of several steps: a new title begins the next step; `total` is 0 if it is unknown."""

TIMED_STEP = "latency"
"""Title of the step that times a model: until the next title, progress displays must leave the cores alone."""

_REPORT_EVERY = 256


def _ignore_progress(_title: str, _done: int, _total: int) -> None:
    pass


def _ignore(_value: object) -> None:
    pass


@dataclass(frozen=True)
class Callbacks:
    """Callbacks of a build, a training or a search; each may be omitted, and none is called while a clip is timed."""

    on_progress: OnStep = _ignore_progress
    on_note: Callable[[str], None] = _ignore
    """Called with a sentence that the user should read."""
    on_event: Callable[[object], None] = _ignore
    """Called with a typed event of the operation, e.g. `PlanReady`, `EpochResult` or `TrialFinished`."""

    def begin(self, title: str) -> None:
        """Report that the step `title` begins; its length is unknown."""
        self.on_progress(title, 0, 0)

    def step(self, title: str) -> OnProgress:
        """Return the callback that reports the progress of the step `title`."""
        return lambda done, total: self.on_progress(title, done, total)


def titled(on_step: OnStep | None, title: str) -> OnProgress | None:
    """Return the callback that reports the progress of the step `title`; None if `on_step` is None."""
    if on_step is None:
        return None
    return lambda done, total: on_step(title, done, total)


def counted(items: Sequence[_Item], on_progress: OnProgress | None) -> Iterator[_Item]:
    """Yield `items` and report, every few hundred and at the end, how many the caller has processed."""
    for done, item in enumerate(items, start=1):
        yield item
        if on_progress and (done % _REPORT_EVERY == 0 or done == len(items)):
            on_progress(done, len(items))
