"""Compare two models on the same videos: the accuracy drop in points of top-1, and its significance.

Only the discordant videos, which one model classifies correctly and the other does not, carry information; the
difficulty of a video affects both models and cancels out. Therefore a drop of one point is measurable on far fewer
videos than by comparing two accuracies by their own confidence intervals.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

from edgeact.calibration.intervals import drop_interval
from edgeact.errors import InputError, UsageError
from edgeact.records import PairedDrop, PairedVerdict

__all__ = ["compare_paired", "count_needed"]

Correct = npt.NDArray[np.bool_]

_TWO_SIDED_95 = 0.975
_POWER = 0.8
_SMALLEST_DROP = 0.01


def compare_paired(reference: Correct, candidate: Correct, max_drop_points: float) -> PairedDrop:
    """Return the accuracy drop of `candidate` against `reference`, bool `(videos,)` each: True if classified correctly.

    The verdict depends on the confidence interval: 'keeps' if its upper end is within `max_drop_points`, 'loses' if its
    lower end is beyond, else 'undecided'. The p-value is that of McNemar's exact test. Raises InputError if there are
    no videos or if their numbers differ.
    """
    if reference.shape != candidate.shape or reference.ndim != 1 or not reference.size:
        raise InputError(
            f"expected the same videos for both models, got results of shapes {reference.shape} and {candidate.shape}"
        )
    lost, gained = int((reference & ~candidate).sum()), int((~reference & candidate).sum())
    count = reference.size
    interval = drop_interval(count, lost, gained)
    verdict: PairedVerdict = "keeps" if interval.high <= max_drop_points else "undecided"
    if interval.low > max_drop_points:
        verdict = "loses"
    return PairedDrop(
        count=count,
        reference_correct=int(reference.sum()),
        lost=lost,
        gained=gained,
        drop_points=100 * (lost - gained) / count,
        interval=interval,
        p_value=float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0,
        max_drop_points=max_drop_points,
        verdict=verdict,
        count_needed=count_needed((lost + gained + 1) / (count + 2)),
    )


def count_needed(discordant: float, drop: float = _SMALLEST_DROP) -> int:
    """Return the number of videos at which a 5 % two-sided test detects a true drop of `drop` with 80 % power.

    `(z_a sqrt(p) + z_b sqrt(p - d^2))^2 / d^2`, where `p` is the fraction of discordant videos (`discordant`) and `d`
    the drop, a fraction: Connor, "Sample size for testing differences in proportions for the paired-sample design",
    Biometrics 43, 1987. `p` is at least `d`. Raises UsageError if the drop is outside (0, 1].
    """
    if not 0 < drop <= 1:
        raise UsageError(f"expected a drop within (0, 1], got {drop:g}")
    fraction = min(max(discordant, drop), 1.0)
    z_test, z_power = (float(norm.ppf(probability)) for probability in (_TWO_SIDED_95, _POWER))
    root = z_test * math.sqrt(fraction) + z_power * math.sqrt(fraction - drop**2)
    return math.ceil((root / drop) ** 2)
