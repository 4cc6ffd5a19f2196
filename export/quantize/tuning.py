"""What is tried on an INT8 graph beyond rounding it: damage by layer, layers left in float, corrected biases."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeact.calibration.parity import LIMITS
from edgeact.export.quantize.bias_correction import corrected_biases
from edgeact.export.quantize.mixed_precision import Mix, goal_beyond, mix
from edgeact.export.quantize.sensitivity import compare, measure_sensitivity
from edgeact.export.quantize.toggle_graph import SwitchedGraph
from edgeact.progress import OnStep, titled
from edgeact.records import Sensitivity

__all__ = ["Study"]

Array = npt.NDArray[np.float32]

_SENSITIVITY_CLIPS = 16  # any prefix of the calibration clips is even over the classes
_MIX_CLIPS = 24
_BIAS_CLIPS = 16
_PROVING_CLIPS = 8  # and as many at most that prove the gain: every one runs through the float graph three times
_FEWEST_CLIPS = 8  # fewer cannot be split into clips to correct biases on and clips that prove the gain
_LEAST_GAIN_DB = 0.1


@dataclass(frozen=True)
class Study:
    """How INT8 is tuned in one export, and what was found; graphs of the same layers share what was found."""

    max_drop_points: float = 1.0
    """Points of top-1 that INT8 may lose."""
    with_sensitivity: bool = False
    """Whether the damage by layer is wanted of plain INT8 too."""
    mixed: bool = False
    """Whether layers are left in float until the accuracy budget is kept."""
    raises: int = 0
    """How many mixes were refused already."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Layer -> the name of its weight in the model, which a rewritten graph may not have."""
    on_step: OnStep = lambda _title, _done, _total: None
    sensitivities: dict[tuple[str, ...], Sensitivity] = field(default_factory=dict)
    """By the names of the graph's layers in INT8."""
    mixes: dict[tuple[tuple[str, ...], int], Mix] = field(default_factory=dict)
    """By these names and `raises`."""
    _biases: dict[frozenset[str], tuple[Mapping[str, Array], str]] = field(default_factory=dict)

    def look_into(self, graph: SwitchedGraph, clips: Sequence[Array], artifact: str) -> Sensitivity:
        """The damage of each layer of `graph`; `artifact` is what it was made for."""
        if graph.names not in self.sensitivities:
            on_progress = titled(self.on_step, "INT8 damage by layer")
            found = measure_sensitivity(graph, clips[:_SENSITIVITY_CLIPS], artifact, on_progress)
            self.sensitivities[graph.names] = self._with_parameters(found)
        return self.sensitivities[graph.names]

    def mix_for(self, graph: SwitchedGraph, clips: Sequence[Array], artifact: str) -> Mix:
        """The layers of `graph` to leave in float, which its sensitivity then tells."""
        key = (graph.names, self.raises)
        if key not in self.mixes:
            sensitivity, few = self.look_into(graph, clips, artifact), clips[:_MIX_CLIPS]
            plain = compare([graph.run(clip, ()) for clip in few], [graph.run(clip, graph.names) for clip in few])
            goal = goal_beyond(plain, LIMITS["int8"].snr_db, self.max_drop_points, self.raises)
            found = mix(graph, few, sensitivity, goal, titled(self.on_step, "mixed precision: sets of layers in float"))
            self.mixes[key] = found
            self.sensitivities[graph.names] = _with_mix(sensitivity, found)
        return self.mixes[key]

    def better_biases(
        self, graph: SwitchedGraph, clips: Sequence[Array], on: Collection[str]
    ) -> tuple[Mapping[str, Array], str]:
        """Corrected biases by layer, where clips they were not corrected on show a gain, else none; and that in words.

        `graph` was made with means, `on` are its layers in INT8.
        """
        key = frozenset(on)
        if key not in self._biases:
            self._biases[key] = self._corrected(graph, clips, on)
        return self._biases[key]

    def _with_parameters(self, found: Sensitivity) -> Sensitivity:
        layers = tuple(
            layer.model_copy(update={"weight": self.parameters.get(layer.layer, layer.weight)})
            for layer in found.layers
        )
        return found.model_copy(update={"layers": layers})

    def _corrected(
        self, graph: SwitchedGraph, clips: Sequence[Array], on: Collection[str]
    ) -> tuple[Mapping[str, Array], str]:
        if len(clips) < _FEWEST_CLIPS:
            return {}, f"biases not corrected: {len(clips)} calibration clips are too few to prove a gain"
        held_back = min(len(clips) // 4, _PROVING_CLIPS)
        used, others = clips[:-held_back][:_BIAS_CLIPS], clips[-held_back:]
        found = corrected_biases(graph, used, on, titled(self.on_step, "bias correction"))
        floats = [graph.run(clip, ()) for clip in others]
        before, after = (
            compare(floats, [graph.run(clip, on, biases) for clip in others])
            for biases in (graph.biases, graph.fed(found))
        )
        if before.snr_db is None or after.snr_db is None:
            return {}, "biases not corrected: INT8 rounds nothing"
        told = f"{before.snr_db:.1f} to {after.snr_db:.1f} dB on {len(others)} other clips"
        if after.snr_db < before.snr_db + _LEAST_GAIN_DB:
            return {}, f"biases not corrected: it takes the SNR of INT8 from {told}"
        return found, f"biases of {len(found)} layers corrected: it takes the SNR of INT8 from {told}"


def _with_mix(sensitivity: Sensitivity, found: Mix) -> Sensitivity:
    reasons = found.reasons
    layers = tuple(
        layer.model_copy(update={"float_reason": reasons.get(layer.layer, "")}) for layer in sensitivity.layers
    )
    return sensitivity.model_copy(
        update={
            "mixed_snr_db": found.reached.snr_db,
            "mixed_top1_agreement": found.reached.top1_agreement,
            "layers": layers,
        }
    )
