"""Mixed precision: the fewest multiply-accumulates in float that bring INT8 within its accuracy budget.

The damage of single layers only orders them, by noise per multiply-accumulate: what their sum says of the whole is
wrong wherever layers saturate or correct each other, so every decision is by a run of the whole network with exactly
the layers in float that it is about. Bisection over the order finds how many layers from its top keep the budget; then
each of them, the most costly first, goes back to INT8 if the budget still holds, until none can.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeact.export.quantize.sensitivity import compare
from edgeact.export.quantize.toggle_graph import Layer, SwitchedGraph
from edgeact.progress import OnProgress
from edgeact.reasons import MixedPrecision
from edgeact.records import LayerSensitivity, Parity, Sensitivity

__all__ = ["MOST_IN_FLOAT", "Goal", "Mix", "goal_beyond", "mix"]

Array = npt.NDArray[np.float32]

MOST_IN_FLOAT = 0.5
"""Share of the multiply-accumulates: with more of them in float there is little left to gain over a float artifact."""

_MARGIN_DB = 3.0  # calibration clips are not those an artifact is judged on


@dataclass(frozen=True)
class Goal:
    """What the network has to reach on calibration clips, against its float graph."""

    snr_db: float
    changed: int
    """Clips that may change their class."""


@dataclass(frozen=True)
class Mix:
    """Layers to leave in float, and what the network with them in float comes to on the same clips."""

    goal: Goal
    reached: Parity
    share: float
    """Of the multiply-accumulates of all layers looked at, in float."""
    layers: tuple[LayerSensitivity, ...]
    wanted: tuple[int, float] | None = None
    """Where the goal takes more than MOST_IN_FLOAT: how many layers it takes, and their share."""

    @property
    def is_met(self) -> bool:
        """Whether the goal is kept."""
        return self.wanted is None

    @property
    def reasons(self) -> dict[str, str]:
        """Layer -> why it is left in float."""
        return {layer.layer: f"mixed precision: INT8 here alone leaves {_damage(layer)}" for layer in self.layers}

    @property
    def decision(self) -> MixedPrecision:
        """The layers kept in float, how close they come to the goal and, if it is out of reach, what would meet it."""
        needed, needed_share = self.wanted or (None, None)
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


def goal_beyond(plain: Parity, limit_db: float, max_drop_points: float, raises: int = 0) -> Goal:
    """What INT8 that was refused has to reach: a margin above the parity limit, and above what it was refused with.

    As many clips may change their class as the accuracy budget allows, rounded up: one hesitant clip decides nothing.
    `raises` is how often a mix was refused already.
    """
    own = plain.snr_db if plain.snr_db is not None else math.inf
    least = limit_db if math.isinf(own) else max(limit_db, own)
    return Goal(least + _MARGIN_DB * (1 + raises), math.ceil(max_drop_points / 100 * plain.clips))


def mix(
    graph: SwitchedGraph,
    clips: Sequence[Array],
    sensitivity: Sensitivity,
    goal: Goal,
    on_progress: OnProgress | None = None,
) -> Mix:
    """Choose the layers to leave in float so that `graph` keeps `goal` on `clips`; none where it does as it is.

    `sensitivity` is that of `graph`. Where the goal takes more than MOST_IN_FLOAT of the multiply-accumulates, the mix
    is the best within that share, and says what it would take.
    """
    search = _Search(graph, clips, goal, on_progress)
    order = _order(graph, sensitivity)
    low, high = 0, len(order)  # all in float keeps every goal
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if search.is_kept(order[:middle]) else (middle + 1, high)
    chosen = search.without_needless(order[:high])
    wanted = None
    if _share(graph, chosen) > MOST_IN_FLOAT:
        wanted = (len(chosen), _share(graph, chosen))
        chosen = _within(graph, order)
    names = {layer.name for layer in chosen}
    damages = tuple(damage for damage in sensitivity.layers if damage.layer in names)
    return Mix(goal, search.parity(chosen), _share(graph, chosen), damages, wanted)


@dataclass
class _Search:
    """Runs sets of layers in float over the clips."""

    graph: SwitchedGraph
    clips: Sequence[Array]
    goal: Goal
    on_progress: OnProgress | None
    _floats: list[Array] = field(init=False)
    _tried: int = 0

    def __post_init__(self) -> None:
        self._floats = [self.graph.run(clip, ()) for clip in self.clips]

    def is_kept(self, in_float: Collection[Layer]) -> bool:
        """Whether the goal is kept; clips are left out once it cannot be any more."""
        self._tell()
        signal = sum(float(np.square(logits, dtype=np.float64).sum()) for logits in self._floats)
        noise_left, changes_left = signal / 10 ** (self.goal.snr_db / 10), self.goal.changed
        for clip, wanted in zip(self.clips, self._floats, strict=True):
            got = self.graph.run(clip, self._on(in_float))
            noise_left -= float(np.square(got.astype(np.float64) - wanted).sum())
            changes_left -= int(got.argmax() != wanted.argmax())
            if not noise_left >= 0 or changes_left < 0:  # a NaN keeps nothing
                return False
        return True

    def without_needless(self, in_float: Sequence[Layer]) -> list[Layer]:
        """The layers less those, the most costly first, without which the goal is kept too."""
        left = sorted(in_float, key=lambda layer: -layer.macs)
        for layer in list(left):
            fewer = [one for one in left if one is not layer]
            if self.is_kept(fewer):
                left = fewer
        return left if len(left) == len(in_float) else self.without_needless(left)

    def parity(self, in_float: Collection[Layer]) -> Parity:
        """Agreement with the float graph."""
        return compare(self._floats, [self.graph.run(clip, self._on(in_float)) for clip in self.clips])

    def _on(self, in_float: Collection[Layer]) -> set[str]:
        return set(self.graph.names) - {layer.name for layer in in_float}

    def _tell(self) -> None:
        """How many sets were tried; how many it takes is not known."""
        self._tried += 1
        if self.on_progress:
            self.on_progress(self._tried, 0)


def _damage(layer: LayerSensitivity) -> str:
    snr = "no error" if layer.snr_db is None else f"{layer.snr_db:.1f} dB"
    return f"{snr} of SNR and {layer.top1_agreement:.0%} of the top-1"


def _order(graph: SwitchedGraph, sensitivity: Sensitivity) -> list[Layer]:
    """The layers by noise per multiply-accumulate, most first."""
    noise = {
        damage.layer: 0.0 if damage.snr_db is None else 10 ** (-damage.snr_db / 10) for damage in sensitivity.layers
    }
    return sorted(graph.layers, key=lambda layer: -noise[layer.name] / max(layer.macs, 1))


def _share(graph: SwitchedGraph, chosen: Collection[Layer]) -> float:
    return sum(layer.macs for layer in chosen) / max(sum(layer.macs for layer in graph.layers), 1)


def _within(graph: SwitchedGraph, order: Sequence[Layer]) -> list[Layer]:
    """The longest beginning of `order` that is worth it."""
    return next(
        list(order[:count]) for count in range(len(order), -1, -1) if _share(graph, order[:count]) <= MOST_IN_FLOAT
    )
