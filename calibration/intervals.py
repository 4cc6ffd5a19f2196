"""Confidence intervals of accuracies and of their differences."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

from edgeact.records import Interval

__all__ = ["drop_interval", "proportion_interval"]

_RESAMPLES = 10_000
_SEED = 0


def proportion_interval(correct: int, count: int) -> Interval:
    """Return Wilson's 95 % confidence interval of a proportion, as fractions; the trials count as independent."""
    interval = binomtest(correct, count).proportion_ci(method="wilson")
    return Interval(low=float(interval.low), high=float(interval.high))


def drop_interval(count: int, lost: int, gained: int) -> Interval:
    """Return the 95 % confidence interval of an accuracy drop, in points, from a paired bootstrap over `count` videos.

    `lost` and `gained` are the videos that only the reference or only the candidate classifies correctly. Half a video
    is added to each of the four cells of the table (Agresti and Min, "Simple improved confidence intervals for
    comparing matched proportions", Statistics in Medicine 24, 2005): otherwise a handful of videos without a change
    would prove a drop of exactly 0. Resampling videos is a multinomial draw of the cells, so that no video is copied;
    `scipy.stats.bootstrap` cannot add the half videos. The same counts give the same interval.
    """
    total = count + 2
    shares = np.array([lost + 0.5, gained + 0.5, count - lost - gained + 1.0]) / total
    cells = np.random.default_rng(_SEED).multinomial(total, shares, size=_RESAMPLES)
    low, high = np.percentile(100 * (cells[:, 0] - cells[:, 1]) / total, (2.5, 97.5)).tolist()
    return Interval(low=low, high=high)
