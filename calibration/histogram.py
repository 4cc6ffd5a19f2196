"""Histograms of activation magnitudes: exact counts in bounded memory, in bins that never change.

A bin holds the float32 values whose bits, without the sign, differ in the last 14 only. So each octave has 512 bins;
the highest octave is as fine as 1024 uniform bins from 0, the lower ones are finer. A larger value appends bins; no
count is ever redistributed, so that neither the order of clips nor their partition over processes changes the result.
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
    """Counts of abs(x) by bin, int64 `(bins,)`, and the exact extrema of x."""

    counts: Counts
    low: float
    high: float

    def __add__(self, other: Histogram) -> Histogram:
        """Return the histogram of both sets of values."""
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
        """The edges of the bins, float64 `(bins + 1,)`; the last edge is the largest magnitude."""
        bits = np.arange(len(self.counts) + 1, dtype=np.uint32) << np.uint32(_SHIFT)
        edges = bits.view(np.float32).astype(np.float64)
        edges[-1:] = self.largest
        return edges

    @functools.cached_property
    def cumulative(self) -> Counts:
        """The number of magnitudes below each edge, int64 `(bins + 1,)`."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    @property
    def total(self) -> int:
        """The number of values counted."""
        return int(self.cumulative[-1])

    def below(self, magnitudes: Values) -> Values:
        """Return the number of values below each magnitude (ascending), assuming uniform values within each bin."""
        return np.interp(magnitudes, self.edges, self.cumulative)

    def share_above(self, magnitude: float) -> float:
        """Return the fraction of the values with a larger magnitude, 0 to 1."""
        if magnitude >= self.largest:
            return 0.0
        return float(1.0 - self.below(np.array([magnitude]))[0] / self.total)


EMPTY = Histogram(np.zeros(0, np.int64), np.inf, -np.inf)
"""The histogram of no values: the start of a sum."""


def count_magnitudes(values: npt.NDArray[np.float32]) -> Histogram:
    """Count the magnitudes of a contiguous, non-empty float32 array of any shape.

    If a value is NaN or infinite, an extremum is as well, and no value is counted.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        return Histogram(np.zeros(0, np.int64), low, high)
    bins = (values.reshape(-1).view(np.uint32) & _MAGNITUDE) >> np.uint32(_SHIFT)
    return Histogram(np.bincount(bins), low, high)
