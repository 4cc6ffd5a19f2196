"""Pareto front of a search over latency and accuracy drop, and how it meets the budgets."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeact.records import SearchTrial

__all__ = ["fastest_within", "front_of", "shortfall"]


def front_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points on the Pareto front; both coordinates are minimized.

    The order is ascending in the first coordinate and so descending in the second. Of equal points the first is kept.
    """
    best: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: (*points[index], index)):
        if not best or points[index][1] < points[best[-1]][1]:
            best.append(index)
    return best


def fastest_within(front: Sequence[SearchTrial]) -> SearchTrial | None:
    """Return the fastest trial of a front within both budgets; None if there is none."""
    return next((trial for trial in front if trial.within_budgets), None)


def shortfall(front: Sequence[SearchTrial], max_ms: float | None, max_drop_points: float) -> str:
    """Describe how close a front comes to budgets that none of its trials meets, and which budgets would be met."""
    known = [(trial, trial.latency_ms, trial.drop.drop_points) for trial in front if trial.latency_ms and trial.drop]
    if not known:
        return "no trial could be measured; the record has the reason of each failure"
    texts = []
    accurate = [(trial, ms) for trial, ms, drop in known if drop <= max_drop_points]
    if accurate and max_ms is not None:
        trial, ms = min(accurate, key=lambda entry: entry[1])
        texts.append(
            f"within --max-drop {max_drop_points:g} the fastest is trial {trial.number} with {ms:.3g} ms, "
            f"{ms / max_ms:.2f} times the budget: --max-ms {_above(ms)} would be met"
        )
    fast = [(trial, drop) for trial, ms, drop in known if max_ms is None or ms <= max_ms]
    if fast:
        trial, drop = min(fast, key=lambda entry: entry[1])
        limit = "of all trials" if max_ms is None else f"within --max-ms {max_ms:g}"
        texts.append(
            f"{limit} the most accurate is trial {trial.number}, which loses {drop:.2f} points: "
            f"--max-drop {_above(drop)} would be met"
        )
    if not fast and max_ms is not None:
        trial, ms, drop = min(known, key=lambda entry: entry[1])
        texts.append(f"the fastest trial of all is {trial.number} with {ms:.3g} ms, at {drop:.2f} points")
    return "; ".join(texts)


def _above(value: float) -> str:
    """Return the smallest budget of two decimals that `value` meets."""
    return f"{math.ceil(100 * value) / 100:g}"
