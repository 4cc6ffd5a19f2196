"""Two models on the same videos: how many points of top-1 the second loses, and how sure that is.

Only videos on which one is right and the other wrong tell the two apart; the difficulty of a video, which both share,
cancels out. That is what makes a drop of one point visible at all: two accuracies measured on different videos, or
compared by their own intervals, would need many times as many.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

from edgeact.errors import InputError, UsageError
from edgeact.records import Interval, PairedDrop, PairedVerdict

__all__ = ["compare_paired", "count_needed", "drop_interval"]

Right = npt.NDArray[np.bool_]

_RESAMPLES = 10_000
_SEED = 0
_TWO_SIDED_95 = 0.975
_POWER = 0.8
_SMALLEST_DROP = 0.01


def compare_paired(reference: Right, candidate: Right, max_drop_points: float) -> PairedDrop:
    """What `candidate` loses against `reference`; both say of every video, `(videos,)`, whether it was recognised.

    The verdict is by the interval: 'keeps' where even its upper end is within `max_drop_points`, 'loses' where even its
    lower end is beyond, else 'undecided'. Raises InputError for no videos or different numbers of them.
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


def drop_interval(count: int, lost: int, gained: int) -> Interval:
    """95 % interval of the drop, points: the percentiles of a paired bootstrap over `count` videos.

    Half a video is added to each of the four cells of the table first (Agresti and Min, "Simple improved confidence
    intervals for comparing matched proportions", Statistics in Medicine 24, 2005): without, a handful of videos on
    which nothing changed would prove a drop of exactly 0. The same counts give the same interval.
    """
    total = count + 2
    shares = np.array([lost + 0.5, gained + 0.5, count - lost - gained + 1.0]) / total
    drawn = np.random.default_rng(_SEED).multinomial(total, shares, size=_RESAMPLES)
    low, high = np.percentile(100 * (drawn[:, 0] - drawn[:, 1]) / total, (2.5, 97.5)).tolist()
    return Interval(low=low, high=high)


def count_needed(discordant: float, drop: float = _SMALLEST_DROP) -> int:
    """Videos after which a true drop of `drop` (a fraction) is found with 80 % probability, by a 5 % two-sided test.

    `(z_a sqrt(p) + z_b sqrt(p - d^2))^2 / d^2` with `p` the share of videos on which the two models differ
    (`discordant`) and `d` the drop: Connor, "Sample size for testing differences in proportions for the paired-sample
    design", Biometrics 43, 1987. `p` is at least `d`. UsageError for a drop outside of (0, 1].
    """
    if not 0 < drop <= 1:
        raise UsageError(f"expected a drop within (0, 1], got {drop:g}")
    share = min(max(discordant, drop), 1.0)
    z_test, z_power = (float(norm.ppf(probability)) for probability in (_TWO_SIDED_95, _POWER))
    wanted = z_test * math.sqrt(share) + z_power * math.sqrt(share - drop**2)
    return math.ceil((wanted / drop) ** 2)
