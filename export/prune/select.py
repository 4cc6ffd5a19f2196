"""Which units stay: the least important go, in numbers that leave layers at multiples of the hardware's tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeact.export.prune.importance import Scores
from edgeact.export.prune.trace import ChannelGroup, Side

__all__ = ["Bounds", "choose", "wanted_globally"]

Chosen = npt.NDArray[np.bool_]
Key = tuple[str, Side]


@dataclass(frozen=True)
class Bounds:
    """What the hardware and prudence ask."""

    multiple: int
    """Widths are multiples of it, or as before."""
    most: float
    """Largest share of a family that goes."""


class _Ranked:
    """A family with its units in order, and how many of every bucket stay by now."""

    def __init__(self, family: ChannelGroup, scores: Scores, kept: int) -> None:
        self.family = family
        self.buckets = [np.flatnonzero(family.buckets == bucket) for bucket in range(family.bucket_count)]
        self.ranks = [own[np.argsort(-scores[own], kind="stable")] for own in self.buckets]
        self.scores = np.stack([scores[own] for own in self.ranks]).mean(axis=0)
        """Of the best, the second best ... of every bucket."""
        self.size = len(self.scores)
        self.kept = kept

    def chosen(self) -> Chosen:
        """Which units stay, `(units,)`."""
        mask = np.zeros(self.family.size, bool)
        for order in self.ranks:
            mask[order[: self.kept]] = True
        return mask


def choose(
    families: Sequence[ChannelGroup],
    scores: Sequence[Scores],
    shares: Sequence[float],
    widths: dict[Key, int],
    bounds: Bounds,
) -> list[Chosen]:
    """Which units of each family stay, `(units,)`, where `shares` of them are to go; at least one of each stays.

    Sides of layers are brought to multiples from the narrowest to the widest: what a narrow one decides, those it is
    part of (the sum that a shortcut makes of a split) take as given.
    """
    ranked = [_Ranked(*each, kept=0) for each in zip(families, scores, strict=True)]
    for item, share in zip(ranked, shares, strict=True):
        floor = max(math.ceil(item.size * (1 - bounds.most) - 1e-9), 1)
        item.kept = item.size if share <= 0 else min(max(round(item.size * (1 - share)), floor), item.size)
    sides: dict[Key, list[tuple[_Ranked, int]]] = {}
    for item in ranked:
        for member in item.family.members:
            if (member.layer, member.side) in widths:
                grain = member.slots.shape[1] * item.family.bucket_count
                sides.setdefault((member.layer, member.side), []).append((item, grain))
    open_ones = {id(item) for item, share in zip(ranked, shares, strict=True) if share > 0}
    for key in sorted(sides, key=lambda key: widths[key]):
        free = [(item, grain) for item, grain in sides[key] if id(item) in open_ones]
        if free:
            gone = sum((item.size - item.kept) * grain for item, grain in sides[key])
            _bring(free, widths[key] - gone, widths[key], bounds.multiple)
            open_ones -= {id(item) for item, _ in free}
    return [item.chosen() for item in ranked]


def _bring(free: list[tuple[_Ranked, int]], width: int, before: int, multiple: int) -> None:
    """Move `width` to the nearest multiple, or to `before`, that keeping more or fewer of `free` can reach."""
    least = width - sum((item.kept - 1) * grain for item, grain in free)
    most = width + sum((item.size - item.kept) * grain for item, grain in free)
    goals = [goal for goal in (*range(multiple, before + 1, multiple), before) if least <= goal <= most]
    if not goals:  # a side whose fixed part is off the grid, or less than one multiple: all that is left stays
        goals = [most]
    goal = min(goals, key=lambda goal: (abs(goal - width), -goal))
    while width < goal:
        grown = [(item, grain) for item, grain in free if item.kept < item.size and width + grain <= goal]
        if not grown:
            return
        item, grain = max(grown, key=lambda each: float(each[0].scores[each[0].kept]))
        item.kept += 1
        width += grain
    while width > goal:
        shrunk = [(item, grain) for item, grain in free if item.kept > 1 and width - grain >= goal]
        if not shrunk:
            return
        item, grain = min(shrunk, key=lambda each: float(each[0].scores[each[0].kept - 1]))
        item.kept -= 1
        width -= grain


def wanted_globally(scores: Sequence[Scores], ratio: float) -> list[float]:
    """The share of each family that is among the `ratio` least important units of all; ties are shared out evenly."""
    if not scores:
        return []
    owners = np.repeat(np.arange(len(scores)), [len(own) for own in scores])
    places = np.concatenate([np.argsort(np.argsort(own, kind="stable")) / len(own) for own in scores])
    least = np.lexsort((places, np.concatenate([*scores])))[: round(len(owners) * ratio)]
    gone = np.bincount(owners[least], minlength=len(scores))
    return [float(count / len(own)) for count, own in zip(gone, scores, strict=True)]
