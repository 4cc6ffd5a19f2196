"""Range methods: compute the symmetric INT8 range of an activation from the histogram of its magnitudes.

A method returns the limit L of the range [-L, L], 0 < L <= the largest magnitude; L is 0 if every value is 0.
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
"""The largest quantized value of symmetric INT8: its zero point is 0, its values are -127 to 127."""

MethodName = Literal["minmax", "percentile", "entropy", "mse"]
RangeMethod = Callable[[Histogram], float]
Values = npt.NDArray[np.float64]

_PERCENT = 99.99  # as in NVIDIA's pytorch-quantization
_MSE_OCTAVES, _MSE_COARSE, _MSE_FINE = 6, 8, 16
"""The squared error is evaluated at 8 limits per octave, then at 16 finer ones on either side of the best."""
_KL_BINS, _KL_LEVELS = 2048, 128  # as in TensorRT
_KL_STRIDE = 16


def minmax(histogram: Histogram) -> float:
    """Return the largest magnitude: nothing is clipped."""
    return histogram.largest


def percentile(histogram: Histogram, percent: float = _PERCENT) -> float:
    """Return the magnitude that `percent` of the values do not exceed."""
    if percent >= 100:
        return histogram.largest
    rank = histogram.total * percent / 100
    last = min(int(np.searchsorted(histogram.cumulative, rank, side="left")), len(histogram.counts))
    first = max(last - 1, 0)
    (low, high), (before, after) = histogram.edges[[first, last]], histogram.cumulative[[first, last]]
    magnitude = low + (high - low) * (rank - before) / max(after - before, 1)
    # If nearly all values are 0, the percentile is 0 and the others would all be clipped.
    return min(float(magnitude), histogram.largest) if first > 0 else histogram.largest


def mse(histogram: Histogram) -> float:
    """Return the limit with the smallest squared error of rounding and clipping, within six octaves of the largest."""
    coarse = histogram.largest * 2.0 ** -np.arange(0, _MSE_OCTAVES, 1 / _MSE_COARSE)
    best = int(np.argmin(squared_errors(histogram, coarse)))
    around = 2.0 ** (np.arange(-_MSE_FINE, _MSE_FINE + 1) / (_MSE_COARSE * _MSE_FINE))
    fine = np.minimum(coarse[best] * around, histogram.largest)
    return float(fine[np.argmin(squared_errors(histogram, fine))])


def squared_errors(histogram: Histogram, limits: Values) -> Values:
    """Return the sum of (x - dequantize(quantize(x)))**2 for each limit; a value counts as the center of its bin."""
    centers = (histogram.edges[:-1] + histogram.edges[1:]) / 2
    used = np.flatnonzero(histogram.counts)
    centers, counts = centers[used], histogram.counts[used]
    # A value that is rounded to 0 with the smallest limit is rounded to 0 with every limit.
    not_zero = centers >= limits.min() / INT8_MAX / 2
    error_of_zeros = float(np.sum(counts[~not_zero] * centers[~not_zero] ** 2))
    centers, counts = centers[not_zero], counts[not_zero]
    errors = [_squared_error(centers, counts, limit) if limit else 0.0 for limit in limits.tolist()]
    return np.array(errors) + error_of_zeros


def _squared_error(values: Values, counts: npt.NDArray[np.int64], limit: float) -> float:
    scale = limit / INT8_MAX
    dequantized = np.minimum(np.rint(values / scale), INT8_MAX) * scale
    return float(np.dot(counts, (values - dequantized) ** 2))


def entropy(histogram: Histogram) -> float:
    """Return the limit whose 128 levels have the smallest Kullback-Leibler divergence from the values, as in TensorRT.

    Every 16th of TensorRT's 2048 limits is a candidate. The count of the first bin is replaced by that of the second,
    because every limit represents 0 exactly.
    """
    if histogram.largest == 0:
        return 0.0
    edges = np.linspace(0.0, histogram.largest, _KL_BINS + 1)
    counts = np.diff(histogram.below(edges))
    counts[0] = counts[1]
    ends = range(_KL_LEVELS, _KL_BINS + 1, _KL_STRIDE)
    divergences = [_divergence(counts, end) for end in ends]
    return float(edges[ends[int(np.argmin(divergences))]])


def _divergence(counts: Values, end: int) -> float:
    """Return the divergence if the bins before `end` are merged into 128 levels and the others are clipped."""
    clipped = counts[:end].copy()
    clipped[-1] += counts[end:].sum()
    used = counts[:end] > 0
    starts = np.arange(_KL_LEVELS) * end // _KL_LEVELS
    sums, filled = np.add.reduceat(counts[:end], starts), np.add.reduceat(used.astype(np.float64), starts)
    level = np.repeat(np.arange(_KL_LEVELS), np.diff([*starts, end]))
    merged = np.where(used, (sums / np.maximum(filled, 1.0))[level], 0.0)
    if not merged.any() or (clipped[~used] > 0).any():  # values are clipped into an empty bin: q is 0 and p is not
        return np.inf
    p, q = clipped[used] / clipped.sum(), merged[used] / merged.sum()
    return float(np.sum(p * np.log(p / q)))


METHODS: Mapping[MethodName, RangeMethod] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
