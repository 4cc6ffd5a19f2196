"""The INT8 graph of a target: Q/DQ by activation ranges, then mixed precision and bias correction by a tuner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgeact.export.candidates.candidate import BuildInputs, Label, TargetGraph
from edgeact.export.quantize.activation_ranges import quantized_tensors
from edgeact.export.quantize.bias_correction import with_biases
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.exclusions import module_layers, target_exclusions
from edgeact.export.quantize.qdq import float_layers, quantize
from edgeact.export.quantize.toggle_graph import build_toggle_graph
from edgeact.export.quantize.tuning import Tuner
from edgeact.layer_reasons import FloatReason
from edgeact.reasons import Int8Omitted

__all__ = ["Tuning", "excluded_layers", "int8_graph", "int8_omission"]


def excluded_layers(inputs: BuildInputs, graph: ir.Model) -> dict[str, FloatReason]:
    """Return the layers that the target's rules or the user keep in float, with the reason."""
    return module_layers(graph, inputs.float_modules) | target_exclusions(graph, inputs.profile)


def int8_omission(graph: ir.Model, excluded: Mapping[str, FloatReason]) -> Int8Omitted | None:
    """Return why `graph` has no INT8 layer; None if at least one is left."""
    if quantized_tensors(graph, excluded):
        return None
    return Int8Omitted(cause="all-layers-in-float", layer_reasons=tuple(dict.fromkeys(excluded.values())))


@dataclass(frozen=True)
class Tuning:
    """How INT8 graphs are tuned in one run of the stage 'quantize'."""

    tuner: Tuner
    attempt: int | None = None
    """Attempt of mixed precision, from 0; None: plain INT8."""

    @property
    def label(self) -> Label:
        """Label of INT8 artifacts."""
        return "int8" if self.attempt is None else "mixed"


def int8_graph(
    calibrator: Calibrator, tuning: Tuning | None, graph: ir.Model, excluded: Mapping[str, FloatReason], artifact: str
) -> TargetGraph:
    """Return `graph` in INT8 without the `excluded` layers, tuned if `tuning` says how; `graph` is not changed.

    `artifact` names the artifact in the record of the sensitivity.
    """
    ranges = calibrator.ranges_for(graph, excluded)
    quantized = quantize(graph, ranges, excluded)
    toggled = build_toggle_graph(graph, quantized, excluded, with_means=True) if tuning else None
    if tuning is None or toggled is None or not toggled.layers:
        return TargetGraph("int8", quantized, float_layers=float_layers(graph, excluded))
    tuned = tuning.tuner.tune(toggled, calibrator.clips, artifact, tuning.attempt)
    if tuned.mix is not None:
        excluded = {**excluded, **tuned.mix.reasons}
        quantized = quantize(graph, ranges, excluded)
    return TargetGraph(
        "int8",
        with_biases(quantized, tuned.biases),
        mixed=tuned.mix is not None,
        float_layers=float_layers(graph, excluded),
        decisions=tuned.decisions,
        sensitivity=tuned.sensitivity,
        goal_met=tuned.mix is None or tuned.mix.is_met,
    )
