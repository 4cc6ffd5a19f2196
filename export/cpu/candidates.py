"""Candidates for CPUs: OpenVINO IR, ONNX, and in INT8 a program of the native engine."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from edgeact.bundle import Artifact
from edgeact.bundle.manifest import Role
from edgeact.export.candidates.candidate import (
    BuildInputs,
    Candidate,
    Emitted,
    TargetGraph,
    TargetGraphs,
    onnx_candidate,
)
from edgeact.export.candidates.int8 import Tuning, excluded_layers, int8_graph, int8_omission
from edgeact.export.cpu.native.compiler import compile_model
from edgeact.export.cpu.native.refusals import NotLoweredError
from edgeact.export.cpu.openvino import to_openvino
from edgeact.export.graph.passes.apply import REWRITES, apply_rewrites
from edgeact.export.graph.passes.base import RewriteOutcome
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import at_opset
from edgeact.export.quantize.avoid_saturation import avoid_saturation
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.fold_weights import fold_weights
from edgeact.export.quantize.qdq_placement import place_qdq
from edgeact.phrases import phrases
from edgeact.precision import Precision
from edgeact.progress import Callbacks
from edgeact.reasons import Decision, NotLowered, PassResult
from edgeact.runtime import get_backend

__all__ = ["cpu_candidates", "cpu_graphs"]

_OPSET = 17
_FLOAT: tuple[Precision, ...] = ("fp32", "fp16")


def cpu_graphs(inputs: BuildInputs, tuning: Tuning | None, callbacks: Callbacks) -> TargetGraphs:
    """Return the rewritten graph in each of the wanted precisions; FP16 concerns the weights only."""
    graph, outcomes = apply_rewrites(at_opset(inputs.master, _OPSET), REWRITES)
    decisions: list[Decision] = [_pass_result(outcome) for outcome in outcomes]
    graphs = [TargetGraph(precision, graph) for precision in _FLOAT if precision in inputs.precisions]
    if "int8" in inputs.precisions and inputs.calibrator is not None:
        excluded = excluded_layers(inputs, graph)
        if omission := int8_omission(graph, excluded):
            decisions.append(omission)
        else:
            callbacks.begin(f"INT8 graph by {len(inputs.calibrator.clips)} calibration clips")
            name = f"openvino-{tuning.label if tuning else 'int8'}"
            quantized = int8_graph(inputs.calibrator, tuning, graph, excluded, name)
            graphs.append(_placed(quantized, graph, inputs.calibrator))
    return TargetGraphs(tuple(graphs), tuple(decisions))


def cpu_candidates(inputs: BuildInputs, graphs: tuple[TargetGraph, ...], callbacks: Callbacks) -> Emitted:
    """Return FP32 and INT8 for OpenVINO and ONNX Runtime, FP16 weights for OpenVINO, and native programs of INT8."""
    candidates: list[Candidate] = []
    decisions: list[Decision] = []
    for graph in graphs:
        callbacks.begin(f"OpenVINO IR, {graph.label.upper()}")
        candidates.append(_openvino_candidate(graph))
        if graph.precision != "fp16":
            candidates.append(onnx_candidate(graph, to_bytes(fold_weights(graph.model))))
        if graph.precision == "int8":
            native = _native_candidate(graph)
            if isinstance(native, Candidate):
                candidates.append(native)
            else:
                decisions.append(native)
    return Emitted(tuple(candidates), tuple(decisions))


def _pass_result(outcome: RewriteOutcome) -> PassResult:
    detail = outcome.refusal.describe() if outcome.refusal else "equal within rounding"
    return PassResult(name=outcome.rewrite, applied=outcome.is_applied, detail=detail)


def _placed(quantized: TargetGraph, graph: ir.Model, calibrator: Calibrator) -> TargetGraph:
    """Return the INT8 graph with its Q/DQ pairs placed for CPU kernels."""
    ranges = calibrator.ranges_for(graph, quantized.float_layers)
    placed = place_qdq(quantized.model, ranges, lambda tensors: calibrator.observed(graph, tensors))
    return replace(quantized, model=placed)


def _openvino_candidate(graph: TargetGraph) -> Candidate:
    """Return the IR; INT8 in the form that OpenVINO computes exactly on a CPU without VNNI too."""
    name = f"openvino-{graph.label}"
    model = avoid_saturation(graph.model) if graph.precision == "int8" else graph.model
    xml, weights = to_openvino(to_bytes(fold_weights(model)), compress_to_fp16=graph.precision == "fp16")
    paths = (f"openvino/{name}.xml", f"openvino/{name}.bin")
    artifact = Artifact(
        name=name,
        kind="openvino-ir",
        precision=graph.precision,
        backends=("openvino",),
        members=paths,
        float_layers=phrases(graph.float_layers),
    )
    members: dict[str, tuple[Role, bytes]] = {paths[0]: ("graph", xml), paths[1]: ("weights", weights)}
    return Candidate(artifact, members, "openvino", "openvino", graph.label, float_layers=graph.float_layers)


def _native_candidate(graph: TargetGraph) -> Candidate | NotLowered:
    """Return the program of the graph, or why the engine does not take a layer or cannot run here."""
    name = f"native-{graph.label}"
    if unavailable := get_backend("native").why_unavailable():
        return NotLowered(artifact=name, unavailable=unavailable)
    try:
        program, tensors = compile_model(fold_weights(graph.model))
    except NotLoweredError as error:
        return NotLowered(artifact=name, layer=error.reason)
    paths = (f"native/{name}.json", f"native/{name}.bin")
    artifact = Artifact(
        name=name,
        kind="native-program",
        precision="int8",
        backends=("native",),
        members=paths,
        float_layers=phrases(graph.float_layers),
    )
    members: dict[str, tuple[Role, bytes]] = {paths[0]: ("graph", program.to_json()), paths[1]: ("weights", tensors)}
    return Candidate(artifact, members, "native", "native", graph.label, float_layers=graph.float_layers)
