"""How often an activation takes which magnitude: counts that are exact, bounded in memory and never moved to new bins.

A bin holds the float32 values whose sign-free bits agree but for the last 14, so every doubling of the magnitude has
512 bins, as fine at its top as 1024 even bins from 0, and finer below. A larger value adds bins at the end; no count
is ever spread over others, so the order of clips, and who counted which, changes nothing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["EMPTY", "Histogram", "count_magnitudes"]

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

_SHIFT = 14
_MAGNITUDE = np.uint32(0x7FFFFFFF)


@dataclass(frozen=True)
class Histogram:
    """Counts of |x| by bin, int64 `(bins,)`, and the exact extrema of x."""

    counts: Counts
    low: float
    high: float

    def __add__(self, other: Histogram) -> Histogram:
        """What both counted."""
        short, long = sorted((self.counts, other.counts), key=len)
        total = long.copy()
        total[: len(short)] += short
        return Histogram(total, min(self.low, other.low), max(self.high, other.high))

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(-self.low, self.high, 0.0)

    @functools.cached_property
    def edges(self) -> Values:
        """Where the bins begin and end, float64 `(bins + 1,)`, the last at the largest magnitude."""
        bits = np.arange(len(self.counts) + 1, dtype=np.uint32) << np.uint32(_SHIFT)
        edges = bits.view(np.float32).astype(np.float64)
        edges[-1:] = self.largest
        return edges

    @functools.cached_property
    def cumulative(self) -> Counts:
        """How many magnitudes lie below each edge, int64 `(bins + 1,)`."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.cumulative[-1])

    def below(self, magnitudes: Values) -> Values:
        """How many values lie below each magnitude (ascending); a bin's own are taken as even within it."""
        return np.interp(magnitudes, self.edges, self.cumulative)

    def share_above(self, magnitude: float) -> float:
        """Share of the values whose magnitude is larger, 0 to 1."""
        if magnitude >= self.largest:
            return 0.0
        return float(1.0 - self.below(np.array([magnitude]))[0] / self.total)


EMPTY = Histogram(np.zeros(0, np.int64), np.inf, -np.inf)
"""Of no values; what sums begin with."""


def count_magnitudes(values: npt.NDArray[np.float32]) -> Histogram:
    """Count the values of one contiguous, not empty float32 array of any shape.

    Where a value is NaN or infinite the extrema are too, and nothing is counted.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        return Histogram(np.zeros(0, np.int64), low, high)
    bins = (values.reshape(-1).view(np.uint32) & _MAGNITUDE) >> np.uint32(_SHIFT)
    return Histogram(np.bincount(bins), low, high)
