"""The front of a search: what no other configuration beats in both latency and accuracy, and how it meets budgets."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeact.records import SearchTrial

__all__ = ["fastest_within", "front_of", "shortfall"]


def front_of(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (to be made small, both) that no other one is better than or equal to in both.

    By the first number upwards, and so by the second downwards. Of equal points the first stands for all.
    """
    best: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: (*points[index], index)):
        if not best or points[index][1] < points[best[-1]][1]:
            best.append(index)
    return best


def fastest_within(front: Sequence[SearchTrial]) -> SearchTrial | None:
    """The first of a front that keeps both budgets."""
    return next((trial for trial in front if trial.within_budgets), None)


def shortfall(front: Sequence[SearchTrial], max_ms: float | None, max_drop_points: float) -> str:
    """How close the front came to budgets that none of it keeps, and what would keep each of them."""
    known = [(trial, trial.latency_ms, trial.drop.drop_points) for trial in front if trial.latency_ms and trial.drop]
    if not known:
        return "no trial could be measured; the record tells why each of them failed"
    told = []
    accurate = [(trial, ms) for trial, ms, drop in known if drop <= max_drop_points]
    if accurate and max_ms is not None:
        trial, ms = min(accurate, key=lambda one: one[1])
        told.append(
            f"within --max-drop {max_drop_points:g} the fastest is trial {trial.number} with {ms:.3g} ms, "
            f"{ms / max_ms:.2f} times the budget: --max-ms {_above(ms)} would be kept"
        )
    fast = [(trial, drop) for trial, ms, drop in known if max_ms is None or ms <= max_ms]
    if fast:
        trial, drop = min(fast, key=lambda one: one[1])
        limit = "of all" if max_ms is None else f"within --max-ms {max_ms:g}"
        told.append(
            f"{limit} the most accurate is trial {trial.number}, which loses {drop:.2f} points: "
            f"--max-drop {_above(drop)} would be kept"
        )
    if not fast and max_ms is not None:
        trial, ms, drop = min(known, key=lambda one: one[1])
        told.append(f"the fastest of all is trial {trial.number} with {ms:.3g} ms, at {drop:.2f} points")
    return "; ".join(told)


def _above(value: float) -> str:
    """A budget that `value` keeps, to two decimals."""
    return f"{math.ceil(100 * value) / 100:g}"
