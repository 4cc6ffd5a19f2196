"""Tuning of INT8 graphs: sensitivity by layer, mixed precision and bias correction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeact.calibration.parity import LIMITS
from edgeact.export.quantize.bias_correction import corrected_biases
from edgeact.export.quantize.mixed_precision import Mix, mix, next_goal
from edgeact.export.quantize.sensitivity import compare, measure_sensitivity
from edgeact.export.quantize.toggle_graph import ToggleGraph
from edgeact.phrases import phrases
from edgeact.progress import Callbacks
from edgeact.reasons import BiasCorrection, Decision
from edgeact.records import Sensitivity

__all__ = ["Tuned", "Tuner", "TuningSettings"]

Array = npt.NDArray[np.float32]

_SENSITIVITY_CLIPS = 16  # any prefix of the calibration clips is even over the classes
_MIX_CLIPS = 24
_BIAS_CLIPS = 16
_PROVING_CLIPS = 8  # each runs three times through the float graph, so not more of them prove the gain
_FEWEST_CLIPS = 8  # fewer cannot be split into clips to correct biases on and clips that prove the gain
_LEAST_GAIN_DB = 0.1


@dataclass(frozen=True)
class TuningSettings:
    """How INT8 graphs of one model are tuned."""

    max_drop_points: float = 1.0
    """Points of top-1 that INT8 may lose."""
    with_sensitivity: bool = False
    """Whether the sensitivity of plain INT8 is measured too."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Layer -> name of its weight in the model, which a rewritten graph may lack."""


@dataclass(frozen=True)
class Tuned:
    """The result of tuning one INT8 graph."""

    biases: Mapping[str, Array]
    """Layer -> corrected bias, float32 `(channels,)`; empty if correction does not pay."""
    decisions: tuple[Decision, ...]
    mix: Mix | None = None
    """Layers that mixed precision keeps in float; None for plain INT8."""
    sensitivity: Sensitivity | None = None


class Tuner:
    """Tunes the INT8 graphs of one model; results are cached by the names of a graph's layers, so that graphs of the
    same layers (TensorRT's typings, the attempts of mixed precision) share them."""

    def __init__(self, settings: TuningSettings, callbacks: Callbacks) -> None:
        self._settings = settings
        self._callbacks = callbacks
        self._sensitivities: dict[tuple[str, ...], Sensitivity] = {}
        self._mixes: dict[tuple[tuple[str, ...], int], Mix] = {}
        self._biases: dict[tuple[tuple[str, ...], frozenset[str]], tuple[Mapping[str, Array], BiasCorrection]] = {}

    def tune(self, graph: ToggleGraph, clips: Sequence[Array], artifact: str, attempt: int | None = None) -> Tuned:
        """Tune `graph` on calibration `clips`, float32 `(1, 3, T, H, W)`.

        `graph` is built by `build_toggle_graph(with_means=True)`. `attempt` None leaves all layers in INT8; 0, 1 ...
        searches for layers to keep in float, each time with a higher goal. `artifact` names the artifact in the
        sensitivity's record.
        """
        enabled = set(graph.names)
        decisions: list[Decision] = []
        chosen, sensitivity = None, None
        if attempt is not None:
            chosen = self.mix(graph, clips, artifact, attempt)
            sensitivity = _with_mix(self.sensitivity(graph, clips, artifact), chosen)
            enabled -= chosen.reasons.keys()
            decisions.append(chosen.decision)
        elif self._settings.with_sensitivity:
            sensitivity = self.sensitivity(graph, clips, artifact)
        biases, correction = self.corrected_biases(graph, clips, enabled)
        decisions.append(correction.model_copy(update={"mixed": chosen is not None}))
        return Tuned(biases, tuple(decisions), chosen, sensitivity)

    def sensitivity(self, graph: ToggleGraph, clips: Sequence[Array], artifact: str) -> Sensitivity:
        """Measure the error of INT8 in each layer of `graph` alone."""
        if graph.names not in self._sensitivities:
            on_progress = self._callbacks.step("INT8 error by layer")
            measured = measure_sensitivity(graph, clips[:_SENSITIVITY_CLIPS], artifact, on_progress)
            self._sensitivities[graph.names] = self._with_parameters(measured)
        return self._sensitivities[graph.names]

    def mix(self, graph: ToggleGraph, clips: Sequence[Array], artifact: str, attempt: int) -> Mix:
        """Choose the layers of `graph` to keep in float so that INT8 stays within the accuracy budget."""
        key = (graph.names, attempt)
        if key not in self._mixes:
            sensitivity, few = self.sensitivity(graph, clips, artifact), clips[:_MIX_CLIPS]
            plain = compare([graph.run(clip, ()) for clip in few], [graph.run(clip, graph.names) for clip in few])
            goal = next_goal(plain, LIMITS["int8"].snr_db, self._settings.max_drop_points, attempt)
            on_progress = self._callbacks.step("mixed precision: sets of layers in float")
            self._mixes[key] = mix(graph, few, sensitivity, goal, on_progress)
        return self._mixes[key]

    def corrected_biases(
        self, graph: ToggleGraph, clips: Sequence[Array], enabled: Collection[str]
    ) -> tuple[Mapping[str, Array], BiasCorrection]:
        """Return corrected biases by layer, none if held-back clips show no gain, and the decision.

        `graph` is built by `build_toggle_graph(with_means=True)`; `enabled` are its layers in INT8.
        """
        key = (graph.names, frozenset(enabled))
        if key not in self._biases:
            self._biases[key] = self._correct(graph, clips, enabled)
        return self._biases[key]

    def _with_parameters(self, measured: Sensitivity) -> Sensitivity:
        names = self._settings.parameters
        layers = tuple(
            layer.model_copy(update={"weight": names.get(layer.layer, layer.weight)}) for layer in measured.layers
        )
        return measured.model_copy(update={"layers": layers})

    def _correct(
        self, graph: ToggleGraph, clips: Sequence[Array], enabled: Collection[str]
    ) -> tuple[Mapping[str, Array], BiasCorrection]:
        if len(clips) < _FEWEST_CLIPS:
            return {}, BiasCorrection(mixed=False, outcome="too-few-clips", clips=len(clips))
        held_back = min(len(clips) // 4, _PROVING_CLIPS)
        used, others = clips[:-held_back][:_BIAS_CLIPS], clips[-held_back:]
        biases = corrected_biases(graph, used, enabled, self._callbacks.step("bias correction"))
        floats = [graph.run(clip, ()) for clip in others]
        before, after = (
            compare(floats, [graph.run(clip, enabled, each) for clip in others]).snr_db
            for each in (graph.biases, graph.fed(biases))
        )
        if before is None or after is None:
            return {}, BiasCorrection(mixed=False, outcome="no-error", clips=len(others))
        gains = after >= before + _LEAST_GAIN_DB
        decision = BiasCorrection(
            mixed=False,
            outcome="corrected" if gains else "no-gain",
            layers=len(biases) if gains else 0,
            clips=len(others),
            before_db=before,
            after_db=after,
        )
        return (biases if gains else {}), decision


def _with_mix(sensitivity: Sensitivity, chosen: Mix) -> Sensitivity:
    reasons = phrases(chosen.reasons)
    layers = tuple(
        layer.model_copy(update={"float_reason": reasons.get(layer.layer, "")}) for layer in sensitivity.layers
    )
    return sensitivity.model_copy(
        update={
            "mixed_snr_db": chosen.reached.snr_db,
            "mixed_top1_agreement": chosen.reached.top1_agreement,
            "layers": layers,
        }
    )
