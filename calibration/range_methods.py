"""From what values an activation takes to the range INT8 represents: one function a method, chosen by name.

A method takes a histogram of magnitudes and returns the limit L of the symmetric range -L to L, 0 < L <= the largest
magnitude; 0 only where every value is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgeact.calibration.histogram import Histogram

__all__ = [
    "INT8_MAX",
    "METHODS",
    "MethodName",
    "RangeMethod",
    "entropy",
    "minmax",
    "mse",
    "percentile",
    "squared_errors",
]

INT8_MAX = 127
"""Steps of symmetric int8 on either side of 0."""

MethodName = Literal["minmax", "percentile", "entropy", "mse"]
RangeMethod = Callable[[Histogram], float]
Values = npt.NDArray[np.float64]

_PERCENT = 99.99  # as in NVIDIA's pytorch-quantization
_MSE_OCTAVES, _MSE_COARSE, _MSE_FINE = 6, 8, 16
"""Eight limits an octave are tried, then 16 steps to either side of the best."""
_KL_BINS, _KL_LEVELS = 2048, 128  # as in TensorRT
_KL_STRIDE = 16


def minmax(histogram: Histogram) -> float:
    """The largest magnitude: nothing is clipped."""
    return histogram.largest


def percentile(histogram: Histogram, percent: float = _PERCENT) -> float:
    """The magnitude that `percent` of the values do not exceed."""
    if percent >= 100:
        return histogram.largest
    rank = histogram.total * percent / 100
    last = min(int(np.searchsorted(histogram.cumulative, rank, side="left")), len(histogram.counts))
    first = max(last - 1, 0)
    (low, high), (before, after) = histogram.edges[[first, last]], histogram.cumulative[[first, last]]
    found = low + (high - low) * (rank - before) / max(after - before, 1)
    # Of a tensor that is 0 nearly everywhere the rest is all there is to represent.
    return min(float(found), histogram.largest) if first > 0 else histogram.largest


def mse(histogram: Histogram) -> float:
    """The limit with the smallest squared error of rounding and clipping, within six octaves of the largest."""
    coarse = histogram.largest * 2.0 ** -np.arange(0, _MSE_OCTAVES, 1 / _MSE_COARSE)
    best = int(np.argmin(squared_errors(histogram, coarse)))
    around = 2.0 ** (np.arange(-_MSE_FINE, _MSE_FINE + 1) / (_MSE_COARSE * _MSE_FINE))
    fine = np.minimum(coarse[best] * around, histogram.largest)
    return float(fine[np.argmin(squared_errors(histogram, fine))])


def squared_errors(histogram: Histogram, limits: Values) -> Values:
    """Sum of (x - int8(x))**2 for every limit, each value taken at its bin's middle."""
    middles = (histogram.edges[:-1] + histogram.edges[1:]) / 2
    used = np.flatnonzero(histogram.counts)
    middles, counts = middles[used], histogram.counts[used]
    # What rounds to 0 by the smallest limit does so by all.
    coarse = middles >= limits.min() / INT8_MAX / 2
    rest = float(np.sum(counts[~coarse] * middles[~coarse] ** 2))
    middles, counts = middles[coarse], counts[coarse]
    errors = [_squared_error(middles, counts, limit) if limit else 0.0 for limit in limits.tolist()]
    return np.array(errors) + rest


def _squared_error(values: Values, counts: npt.NDArray[np.int64], limit: float) -> float:
    step = limit / INT8_MAX
    rounded = np.minimum(np.rint(values / step), INT8_MAX) * step
    return float(np.dot(counts, (values - rounded) ** 2))


def entropy(histogram: Histogram) -> float:
    """The limit whose 128 levels lose least of the distribution by Kullback and Leibler's measure, as TensorRT does.

    Every 16th of its 2048 limits is tried. The count of 0 is left out of it, for 0 is represented by any limit.
    """
    if histogram.largest == 0:
        return 0.0
    edges = np.linspace(0.0, histogram.largest, _KL_BINS + 1)
    counts = np.diff(histogram.below(edges))
    counts[0] = counts[1]
    ends = range(_KL_LEVELS, _KL_BINS + 1, _KL_STRIDE)
    losses = [_divergence(counts, end) for end in ends]
    return float(edges[ends[int(np.argmin(losses))]])


def _divergence(counts: Values, end: int) -> float:
    """Loss where bins before `end` are merged into 128 levels, and all behind are clipped into the last."""
    wanted = counts[:end].copy()
    wanted[-1] += counts[end:].sum()
    used = counts[:end] > 0
    starts = np.arange(_KL_LEVELS) * end // _KL_LEVELS
    sums, filled = np.add.reduceat(counts[:end], starts), np.add.reduceat(used.astype(np.float64), starts)
    level = np.repeat(np.arange(_KL_LEVELS), np.diff([*starts, end]))
    merged = np.where(used, (sums / np.maximum(filled, 1.0))[level], 0.0)
    if not merged.any() or (wanted[~used] > 0).any():  # clipped values fall where there were none: infinitely bad
        return np.inf
    p, q = wanted[used] / wanted.sum(), merged[used] / merged.sum()
    return float(np.sum(p * np.log(p / q)))


METHODS: Mapping[MethodName, RangeMethod] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
