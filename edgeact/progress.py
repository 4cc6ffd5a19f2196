"""How long steps tell how far they are: plain callbacks, called by the thread that called the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

__all__ = ["TIMED_STEP", "OnProgress", "OnStep", "counted", "titled"]

_Item = TypeVar("_Item")

OnProgress = Callable[[int, int], None]
"""`(done, total)`: `done` never falls, and is `total` in the last call of a step that ends well."""

OnStep = Callable[[str, int, int], None]
"""`(title, done, total)` where there are several steps: a new title begins the next one; `total` 0 is unknown."""

TIMED_STEP = "latency"
"""Title of the step that times a model: until the next title, whoever shows progress must leave the cores alone."""

_SEVERAL = 256


def titled(on_step: OnStep | None, title: str) -> OnProgress | None:
    """What tells the step `title` alone; None where nobody listens."""
    if on_step is None:
        return None
    return lambda done, total: on_step(title, done, total)


def counted(items: Sequence[_Item], on_progress: OnProgress | None) -> Iterator[_Item]:
    """Yield `items`, telling now and then, and at the end, how many the caller is through with."""
    for done, item in enumerate(items, start=1):
        yield item
        if on_progress and (done % _SEVERAL == 0 or done == len(items)):
            on_progress(done, len(items))
