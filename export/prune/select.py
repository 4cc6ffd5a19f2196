"""Select the units that remain: the most important, in numbers that bring layers to multiples of the channel tile."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeact.export.prune.importance import Scores
from edgeact.export.prune.trace import ChannelGroup, LayerSide

__all__ = ["Constraints", "KeptUnits", "select_units"]

KeptUnits = npt.NDArray[np.bool_]
"""`(units,)` of a group: True for units that remain."""


@dataclass(frozen=True)
class Constraints:
    """Channel multiple and maximum pruning ratio."""

    multiple: int
    """Widths become multiples of this number, or remain."""
    max_ratio: float
    """Largest share removed from a group."""


class _RankedGroup:
    """A group with its units ranked per partition, and the number that each partition keeps so far."""

    def __init__(self, group: ChannelGroup, scores: Scores, ratio: float, constraints: Constraints) -> None:
        partitions = [np.flatnonzero(group.partitions == index) for index in range(group.partition_count)]
        self.group = group
        self.ranks = [units[np.argsort(-scores[units], kind="stable")] for units in partitions]
        self.scores = np.stack([scores[units] for units in self.ranks]).mean(axis=0)
        """Mean over partitions of their most important unit, their second, and so on."""
        self.size = len(self.scores)
        floor = max(math.ceil(self.size * (1 - constraints.max_ratio) - 1e-9), 1)
        self.kept = self.size if ratio <= 0 else min(max(round(self.size * (1 - ratio)), floor), self.size)

    def units(self) -> KeptUnits:
        """Return which units remain."""
        mask = np.zeros(self.group.size, bool)
        for order in self.ranks:
            mask[order[: self.kept]] = True
        return mask


_Part = tuple[_RankedGroup, int]
"""A group that has channels on a side, and how many channels of the side one step of `kept` is."""


def select_units(
    groups: Sequence[ChannelGroup],
    scores: Sequence[Scores],
    ratios: Sequence[float],
    widths: Mapping[LayerSide, int],
    constraints: Constraints,
) -> list[KeptUnits]:
    """Return which units of each group remain if `ratios` of them are to be removed; each keeps at least one.

    Sides of layers are brought to multiples from the narrowest to the widest: groups settled by a narrow side are given
    for the wider sides they are part of, such as the sum that a shortcut makes of a split.
    """
    ranked = [_RankedGroup(*each, constraints) for each in zip(groups, scores, ratios, strict=True)]
    sides: dict[LayerSide, list[_Part]] = {}
    for item in ranked:
        for member in item.group.members:
            if (member.layer, member.side) in widths:
                grain = member.channels.shape[1] * item.group.partition_count
                sides.setdefault((member.layer, member.side), []).append((item, grain))
    unsettled = {id(item) for item, ratio in zip(ranked, ratios, strict=True) if ratio > 0}
    for side in sorted(sides, key=lambda side: widths[side]):
        free = [(item, grain) for item, grain in sides[side] if id(item) in unsettled]
        if free:
            removed = sum((item.size - item.kept) * grain for item, grain in sides[side])
            _round_width(free, widths[side] - removed, widths[side], constraints.multiple)
            unsettled -= {id(item) for item, _ in free}
    return [item.units() for item in ranked]


def _round_width(free: Sequence[_Part], width: int, before: int, multiple: int) -> None:
    """Bring `width` to the nearest multiple, or to `before`, that keeping more or fewer units of `free` can reach."""
    least = width - sum((item.kept - 1) * grain for item, grain in free)
    most = width + sum((item.size - item.kept) * grain for item, grain in free)
    goals = [goal for goal in (*range(multiple, before + 1, multiple), before) if least <= goal <= most]
    if not goals:  # the given part is off the multiples, or the side is narrower than one: keep all that is left
        goals = [most]
    goal = min(goals, key=lambda goal: (abs(goal - width), -goal))
    while width < goal:
        grown = [(item, grain) for item, grain in free if item.kept < item.size and width + grain <= goal]
        if not grown:
            return
        item, grain = max(grown, key=lambda part: float(part[0].scores[part[0].kept]))
        item.kept += 1
        width += grain
    while width > goal:
        shrunk = [(item, grain) for item, grain in free if item.kept > 1 and width - grain >= goal]
        if not shrunk:
            return
        item, grain = min(shrunk, key=lambda part: float(part[0].scores[part[0].kept - 1]))
        item.kept -= 1
        width -= grain
