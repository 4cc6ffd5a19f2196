"""The share of units to remove from each group of coupled channels."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

import numpy as np

from edgeact.errors import UsageError
from edgeact.export.prune.importance import Scores
from edgeact.export.prune.request import PruneRequest
from edgeact.export.prune.trace import ChannelGroup

__all__ = ["group_ratios", "pattern_ratio"]


def group_ratios(groups: Sequence[ChannelGroup], scores: Sequence[Scores], request: PruneRequest) -> list[float]:
    """Return the share to remove from the present units of each group.

    Raises UsageError if a pattern of `request.ratios` matches no layer of a group.
    """
    _check_patterns(groups, request.ratios)
    present = [group.size / request.original_sizes.get(group.key, group.size) for group in groups]
    given = [pattern_ratio(group, request.ratios) for group in groups]
    if request.scope == "layer":
        ratios = [request.ratio if ratio is None else ratio for ratio in given]
    else:
        ratios = _global_ratios(scores, present, given, request.ratio)
    return [_of_present(min(ratio, request.max_ratio), share) for ratio, share in zip(ratios, present, strict=True)]


def pattern_ratio(group: ChannelGroup, ratios: Mapping[str, float]) -> float | None:
    """Return the ratio of the first pattern that matches an output layer of the group; None if none does."""
    return next((ratio for pattern, ratio in ratios.items() if fnmatch.filter(group.output_layers, pattern)), None)


def _check_patterns(groups: Sequence[ChannelGroup], ratios: Mapping[str, float]) -> None:
    layers = {member.layer for group in groups for member in group.members}
    for pattern in ratios:
        if not fnmatch.filter(layers, pattern):
            raise UsageError(
                f"layer pattern '{pattern}': expected the name of a prunable layer, got a pattern that matches none of "
                f"{len(layers)}; the pruning plan lists the layers that are kept whole, and why"
            )


def _of_present(ratio: float, present: float) -> float:
    """Convert a share of the original units to a share of the present ones; `present` is their share of the original.

    Examples: half of the units are present. To remove 0.5 of the original, remove nothing; to remove 0.75, half.
    """
    return ratio if present == 1 else max(1 - (1 - ratio) / present, 0.0)


def _global_ratios(
    scores: Sequence[Scores], present: Sequence[float], given: Sequence[float | None], ratio: float
) -> list[float]:
    """Return the share of each group's original units, so that all groups without a given ratio lose `ratio`."""
    free = [index for index, fixed in enumerate(given) if fixed is None]
    units = {index: len(scores[index]) for index in free}
    original, total = sum(count / present[index] for index, count in units.items()), sum(units.values())
    removed = _of_present(ratio, total / original) if free else 0.0
    least = dict(zip(free, _least_important([scores[index] for index in free], removed), strict=True))
    shares = {index: 1 - (1 - share) * present[index] for index, share in least.items()}
    return [shares[index] if fixed is None else fixed for index, fixed in enumerate(given)]


def _least_important(scores: Sequence[Scores], ratio: float) -> list[float]:
    """Return the share of each group among the `ratio` least important units of all; ties are spread evenly."""
    if not scores:
        return []
    group = np.repeat(np.arange(len(scores)), [len(units) for units in scores])
    ranks = np.concatenate([np.argsort(np.argsort(units, kind="stable")) / len(units) for units in scores])
    least = np.lexsort((ranks, np.concatenate([*scores])))[: round(len(group) * ratio)]
    counts = np.bincount(group[least], minlength=len(scores))
    return [float(count / len(units)) for count, units in zip(counts, scores, strict=True)]
