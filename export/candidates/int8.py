"""The INT8 graph of a target: Q/DQ by ranges, and what the export's study finds it better with."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from edgeact.export.candidates.candidate import Sources
from edgeact.export.quantize.activation_ranges import quantized_tensors
from edgeact.export.quantize.bias_correction import with_biases
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.exclusions import module_layers, skip_list
from edgeact.export.quantize.qdq import float_layers, quantize
from edgeact.export.quantize.toggle_graph import switchable

__all__ = ["int8_graph", "skipped_layers"]


def skipped_layers(sources: Sources, graph: onnx.ModelProto) -> dict[str, str] | None:
    """Layers that stay in float by the target's rules or as asked for, with the reason; None where no other is left.

    Then there is nothing in INT8, which is told.
    """
    skip = module_layers(graph, sources.float_modules) | skip_list(graph, sources.profile)
    if quantized_tensors(graph, skip):
        return skip
    reasons = ", ".join(dict.fromkeys(skip.values()))
    _tell(sources, f"no INT8: every layer stays in float ({reasons or 'there is none to quantize'})")
    return None


def int8_graph(
    sources: Sources, calibrator: Calibrator, graph: onnx.ModelProto, skip: Mapping[str, str], artifact: str
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """`graph` in INT8, and its layers left in float with the reason: those of `skip`, and those of mixed precision.

    `artifact` is what it is made for. What was found goes into the study, and in words into the decisions.
    """
    ranges = calibrator.ranges_for(graph, skip)
    quantized = quantize(graph, ranges, skip)
    study = sources.study
    if study is None:
        return quantized, float_layers(graph, skip)
    switched = switchable(graph, quantized, skip, with_means=True)
    if not switched.layers:
        return quantized, float_layers(graph, skip)
    on = set(switched.names)
    if study.mixed:
        mix = study.mix_for(switched, calibrator.clips, artifact)
        _tell(sources, f"mixed INT8: {mix.told}")
        on -= mix.reasons.keys()
        skip = {**skip, **mix.reasons}
        quantized = quantize(graph, ranges, skip)
    elif study.with_sensitivity:
        study.look_into(switched, calibrator.clips, artifact)
    biases, told = study.better_biases(switched, calibrator.clips, on)
    _tell(sources, f"{'mixed ' if study.mixed else ''}INT8: {told}")
    return with_biases(quantized, biases), float_layers(graph, skip)


def _tell(sources: Sources, decision: str) -> None:
    """Once, however many graphs it is true of."""
    if decision not in sources.decisions:
        sources.decisions.append(decision)
