"""Statistics of latencies: percentiles, confidence intervals of medians and of their ratios.

Percentiles are nearest-rank: the smallest observed value with at least that fraction of the runs at or below it.
Only numpy is needed, because devices without scipy measure, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeact.records import Interval, Latency

__all__ = ["P90_MIN_RUNS", "P99_MIN_RUNS", "median_interval", "median_ratio", "summarize"]

# The minimum numbers of runs of MLPerf Inference (github.com/mlcommons/inference_policies, "Early Stopping"): from
# these on, the second slowest run is an upper bound of the percentile with 99 % confidence.
P90_MIN_RUNS = 64
P99_MIN_RUNS = 662

_EXACT_RUNS = 1000
_RESAMPLES = 1000

Samples = npt.NDArray[np.float64]


def summarize(samples_ms: Sequence[float], *, warmup_runs: int, threads: int | None) -> Latency:
    """Summarize `samples_ms`, in the order of measurement; no sample is removed.

    `threads`, the setting of the session, is only recorded. Raises ValueError if there are no samples.
    """
    if not samples_ms:
        raise ValueError("expected at least one latency sample, got none")
    samples = np.asarray(samples_ms, dtype=np.float64)
    runs = samples.size
    p50, p90, p99 = np.percentile(samples, (50, 90, 99), method="inverted_cdf").tolist()
    return Latency(
        runs=runs,
        warmup_runs=warmup_runs,
        threads=threads,
        # the mean of equal numbers can be rounded to just outside their range
        mean_ms=min(max(float(samples.mean()), float(samples.min())), float(samples.max())),
        min_ms=float(samples.min()),
        max_ms=float(samples.max()),
        p50_ms=p50,
        p90_ms=p90 if runs >= P90_MIN_RUNS else None,
        p99_ms=p99 if runs >= P99_MIN_RUNS else None,
        p50_interval=median_interval(samples_ms),
        samples_ms=tuple(samples_ms),
    )


def median_interval(samples: Sequence[float]) -> Interval:
    """Return the two-sided 95 % confidence interval of the median, from order statistics of independent samples.

    The ranks are those of the binomial distribution, exact up to 1000 samples, by its normal approximation beyond; no
    distribution of the samples is assumed. Fewer than six samples cannot reach 95 %: their range is returned.
    """
    ordered = sorted(samples)
    rank = _lower_rank(len(ordered))
    return Interval(low=ordered[rank - 1], high=ordered[len(ordered) - rank])


def median_ratio(baseline: Sequence[float], candidate: Sequence[float], *, seed: int = 0) -> Interval:
    """Return one-sided 95 % bounds, lower and upper, of median(candidate) / median(baseline).

    A moving-block bootstrap with blocks of sqrt(n) successive runs: successive latencies are correlated (clocks, other
    processes), so that resampling single runs would give bounds that are too narrow. The same samples and seed give the
    same bounds.
    """
    generator = np.random.default_rng(seed)
    slow, fast = (_resampled_medians(np.asarray(side), generator) for side in (candidate, baseline))
    low, high = np.percentile(slow / fast, (5, 95)).tolist()
    return Interval(low=low, high=high)


def _lower_rank(count: int) -> int:
    """Return the largest rank r >= 1 such that fewer than r samples lie below the median with probability <= 2.5 %."""
    if count > _EXACT_RUNS:
        return max(1, math.floor((count - 1.959964 * math.sqrt(count)) / 2))
    tail, rank = 1, 0  # tail: number of the 2**count sequences of coin tosses with at most `rank` heads
    while 40 * tail <= 2**count:
        rank += 1
        tail += math.comb(count, rank)
    return max(1, rank)


def _resampled_medians(samples: Samples, generator: np.random.Generator) -> Samples:
    block = max(1, math.isqrt(samples.size))
    blocks = math.ceil(samples.size / block)
    offsets = np.arange(block)
    medians = np.empty(_RESAMPLES)
    for index in range(_RESAMPLES):  # one at a time: all resamples of a long record take gigabytes
        starts = generator.integers(0, samples.size - block + 1, size=(blocks, 1))
        medians[index] = np.median(samples[(starts + offsets).ravel()[: samples.size]])
    return medians
