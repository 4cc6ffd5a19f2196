"""Mixed precision: keep as few multiply-accumulates in float as the accuracy budget of INT8 allows.

Sensitivities of single layers only order them, by noise per multiply-accumulate: their sum mispredicts the network's
error if layers saturate or compensate each other, so every decision runs the whole network with the set of layers in
float. Bisection over the order finds the number of layers that meets the budget; then each of them, the most expensive
first, returns to INT8 if the budget is still met, until none can.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeact.export.quantize.sensitivity import compare
from edgeact.export.quantize.toggle_graph import Layer, ToggleGraph
from edgeact.layer_reasons import SensitiveToInt8
from edgeact.progress import OnProgress
from edgeact.reasons import MixedPrecision
from edgeact.records import LayerSensitivity, Parity, Sensitivity

__all__ = ["MOST_IN_FLOAT", "Goal", "Mix", "mix", "next_goal"]

Array = npt.NDArray[np.float32]

MOST_IN_FLOAT = 0.5
"""Largest share of multiply-accumulates in float: with more, little is gained over a float artifact."""

_MARGIN_DB = 3.0  # the artifact is judged on other clips


@dataclass(frozen=True)
class Goal:
    """The parity with the float graph to reach on calibration clips."""

    snr_db: float
    changed: int
    """Clips whose top-1 class may change."""


@dataclass(frozen=True)
class Mix:
    """Layers to keep in float, and the parity of the network with them in float on the same clips."""

    goal: Goal
    reached: Parity
    share: float
    """Share of the multiply-accumulates in float."""
    layers: tuple[LayerSensitivity, ...]
    needed: tuple[int, float] | None = None
    """If the goal needs more than MOST_IN_FLOAT: the number of layers that meet it, and their share."""

    @property
    def is_met(self) -> bool:
        """Whether the goal is met."""
        return self.needed is None

    @property
    def reasons(self) -> dict[str, SensitiveToInt8]:
        """Layer -> why it is kept in float."""
        return {
            layer.layer: SensitiveToInt8(snr_db=layer.snr_db, top1_agreement=layer.top1_agreement)
            for layer in self.layers
        }

    @property
    def decision(self) -> MixedPrecision:
        """The layers kept in float, how close they come to the goal and, if it is out of reach, what would meet it."""
        needed, needed_share = self.needed or (None, None)
        return MixedPrecision(
            layers=len(self.layers),
            share=self.share,
            snr_db=self.reached.snr_db,
            changed=round(self.reached.clips * (1 - self.reached.top1_agreement)),
            clips=self.reached.clips,
            goal_snr_db=self.goal.snr_db,
            goal_changed=self.goal.changed,
            share_limit=MOST_IN_FLOAT,
            needed_layers=needed,
            needed_share=needed_share,
        )


def next_goal(plain: Parity, limit_db: float, max_drop_points: float, raises: int = 0) -> Goal:
    """Return the goal of refused INT8: a margin above the parity limit and above the SNR of plain INT8.

    As many clips may change their class as the accuracy budget allows, rounded up: a single borderline clip is no
    reason to refuse. `raises` is the number of mixes refused so far.
    """
    snr_db = plain.snr_db if plain.snr_db is not None else math.inf
    lowest = limit_db if math.isinf(snr_db) else max(limit_db, snr_db)
    return Goal(lowest + _MARGIN_DB * (1 + raises), math.ceil(max_drop_points / 100 * plain.clips))


def mix(
    graph: ToggleGraph,
    clips: Sequence[Array],
    sensitivity: Sensitivity,
    goal: Goal,
    on_progress: OnProgress | None = None,
) -> Mix:
    """Choose the layers to keep in float so that `graph` meets `goal` on `clips`; none if plain INT8 does.

    `sensitivity` is that of `graph`. If the goal needs more than MOST_IN_FLOAT of the multiply-accumulates, the mix is
    the best within that share, and `needed` tells what would meet the goal.
    """
    search = _Search(graph, clips, goal, on_progress)
    order = _order(graph, sensitivity)
    low, high = 0, len(order)  # with all layers in float every goal is met
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if search.is_met(order[:middle]) else (middle + 1, high)
    chosen = search.minimize(order[:high])
    needed = None
    if _share(graph, chosen) > MOST_IN_FLOAT:
        needed = (len(chosen), _share(graph, chosen))
        chosen = _longest_prefix(graph, order)
    names = {layer.name for layer in chosen}
    sensitivities = tuple(layer for layer in sensitivity.layers if layer.layer in names)
    return Mix(goal, search.parity(chosen), _share(graph, chosen), sensitivities, needed)


@dataclass
class _Search:
    """Runs the network on the clips with sets of layers in float."""

    graph: ToggleGraph
    clips: Sequence[Array]
    goal: Goal
    on_progress: OnProgress | None
    _floats: list[Array] = field(init=False)
    _tried: int = 0

    def __post_init__(self) -> None:
        self._floats = [self.graph.run(clip, ()) for clip in self.clips]

    def is_met(self, in_float: Collection[Layer]) -> bool:
        """Return whether the goal is met; the remaining clips are skipped once it is missed."""
        self._report()
        signal = sum(float(np.square(logits, dtype=np.float64).sum()) for logits in self._floats)
        noise_left, changes_left = signal / 10 ** (self.goal.snr_db / 10), self.goal.changed
        for clip, expected in zip(self.clips, self._floats, strict=True):
            logits = self.graph.run(clip, self._enabled(in_float))
            noise_left -= float(np.square(logits.astype(np.float64) - expected).sum())
            changes_left -= int(logits.argmax() != expected.argmax())
            if not noise_left >= 0 or changes_left < 0:  # also if it is NaN
                return False
        return True

    def minimize(self, in_float: Sequence[Layer]) -> list[Layer]:
        """Return the layers that the goal needs; the most expensive layers are tried without first."""
        needed = sorted(in_float, key=lambda layer: -layer.macs)
        for layer in list(needed):
            fewer = [other for other in needed if other is not layer]
            if self.is_met(fewer):
                needed = fewer
        return needed if len(needed) == len(in_float) else self.minimize(needed)

    def parity(self, in_float: Collection[Layer]) -> Parity:
        """Return the parity with the float graph."""
        return compare(self._floats, [self.graph.run(clip, self._enabled(in_float)) for clip in self.clips])

    def _enabled(self, in_float: Collection[Layer]) -> set[str]:
        return set(self.graph.names) - {layer.name for layer in in_float}

    def _report(self) -> None:
        """Report the number of sets tried; the total is unknown."""
        self._tried += 1
        if self.on_progress:
            self.on_progress(self._tried, 0)


def _order(graph: ToggleGraph, sensitivity: Sensitivity) -> list[Layer]:
    """Return the layers by descending noise per multiply-accumulate."""
    noise = {layer.layer: 0.0 if layer.snr_db is None else 10 ** (-layer.snr_db / 10) for layer in sensitivity.layers}
    return sorted(graph.layers, key=lambda layer: -noise[layer.name] / max(layer.macs, 1))


def _share(graph: ToggleGraph, chosen: Collection[Layer]) -> float:
    return sum(layer.macs for layer in chosen) / max(sum(layer.macs for layer in graph.layers), 1)


def _longest_prefix(graph: ToggleGraph, order: Sequence[Layer]) -> list[Layer]:
    """Return the longest prefix of `order` within MOST_IN_FLOAT."""
    return next(
        list(order[:count]) for count in range(len(order), -1, -1) if _share(graph, order[:count]) <= MOST_IN_FLOAT
    )
