"""Callbacks that collect epochs, or interrupt a training after some."""

from __future__ import annotations

from edgeact.export.train.plan import EpochResult
from edgeact.progress import Callbacks

__all__ = ["InterruptedTrainingError", "collecting_epochs", "interrupting_after"]


class InterruptedTrainingError(Exception):
    """Raised by the callbacks of `interrupting_after`."""


def collecting_epochs(epochs: list[EpochResult]) -> Callbacks:
    """Return callbacks that append the result of every epoch to `epochs`."""

    def on_event(event: object) -> None:
        assert isinstance(event, EpochResult)
        epochs.append(event)

    return Callbacks(on_event=on_event)


def interrupting_after(count: int, epochs: list[EpochResult] | None = None) -> Callbacks:
    """Return callbacks that raise after `count` epochs, all trainings together; `epochs` collects these."""
    finished: list[EpochResult] = [] if epochs is None else epochs

    def on_event(event: object) -> None:
        assert isinstance(event, EpochResult)
        finished.append(event)
        if len(finished) == count:
            raise InterruptedTrainingError

    return Callbacks(on_event=on_event)
