"""Variants for CPUs: OpenVINO IR, ONNX, and in INT8 a program of the native engine."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir

from edgeact.bundle import Artifact
from edgeact.export.candidates.candidate import Sources, Variant, onnx_variant
from edgeact.export.candidates.int8 import int8_graph, skipped_layers
from edgeact.export.cpu.native.compiler import compile_model
from edgeact.export.cpu.native.refusals import NotLoweredError
from edgeact.export.cpu.openvino import to_openvino
from edgeact.export.graph.passes.apply import REWRITES, apply_rewrites
from edgeact.export.graph.proto import from_proto
from edgeact.export.graph.torch_to_onnx import at_opset
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.fold_weights import fold_weights
from edgeact.export.quantize.qdq_placement import integer_flow
from edgeact.records import Precision
from edgeact.runtime import get_backend

__all__ = ["cpu_variants"]

_OPSET = 17


def cpu_variants(sources: Sources) -> list[Variant]:
    """FP32 and INT8 for OpenVINO and ONNX Runtime; FP16 weights for OpenVINO, which computes in its own precision."""
    rewritten, outcomes = apply_rewrites(from_proto(at_opset(sources.master, _OPSET)), REWRITES)
    graph = ir.to_proto(rewritten)
    for outcome in outcomes:
        refusal = outcome.refusal
        result = f"not applied: {refusal.describe()}" if refusal else "applied: equal within rounding"
        sources.decisions.append(f"rewrite '{outcome.rewrite}' {result}")
    variants = []
    if "fp32" in sources.precisions:
        data = graph.SerializeToString()
        sources.on_step("OpenVINO IR, FP32")
        variants += [_ir_variant("openvino-fp32", "fp32", data), onnx_variant("onnx-fp32", "fp32", data)]
    if "fp16" in sources.precisions:
        sources.on_step("OpenVINO IR, FP16 weights")
        variants.append(_ir_variant("openvino-fp16", "fp16", graph.SerializeToString()))
    skip = skipped_layers(sources, graph) if "int8" in sources.precisions and sources.calibration else None
    if skip is not None and sources.calibration is not None:
        sources.on_step(f"calibrating INT8 on {len(sources.calibration.clips)} clips")
        label = sources.label("int8")
        quantized, kept = int8_graph(sources, sources.calibration, graph, skip, f"openvino-{label}")
        data = fold_weights(_flowing(quantized, graph, sources.calibration, kept)).SerializeToString()
        sources.on_step(f"OpenVINO IR, {label}")
        variants.append(_ir_variant(f"openvino-{label}", "int8", data, kept))
        variants.append(onnx_variant(f"onnx-{label}", "int8", data, kept))
        variants += _native_variants(sources, f"native-{label}", data, kept)
    return variants


def _native_variants(sources: Sources, name: str, data: bytes, kept: Mapping[str, str]) -> list[Variant]:
    """The program of the same graph; none, which is told, where the engine lacks a layer or cannot run here."""
    reason = get_backend("native").why_unavailable()
    if reason is None:
        try:
            program, tensors = compile_model(onnx.load_from_string(data))
        except NotLoweredError as error:
            reason = str(error)
    if reason is not None:
        sources.decisions.append(f"no {name}: {reason}")
        return []
    paths = (f"native/{name}.json", f"native/{name}.bin")
    artifact = Artifact(
        name=name,
        kind="native-program",
        precision="int8",
        backends=("native",),
        members=paths,
        float_layers=dict(kept),
    )
    return [Variant(artifact, {paths[0]: ("graph", program.to_json()), paths[1]: ("weights", tensors)}, "native")]


def _flowing(
    quantized: onnx.ModelProto, graph: onnx.ModelProto, calibrator: Calibrator, kept: Mapping[str, str]
) -> onnx.ModelProto:
    """The INT8 graph with its Q/DQ where a CPU's kernels want them; `kept` are its layers in float."""
    ranges = calibrator.ranges_for(graph, kept)
    return integer_flow(quantized, ranges, lambda tensors: calibrator.observed(graph, tensors))


def _ir_variant(name: str, precision: Precision, data: bytes, kept: Mapping[str, str] | None = None) -> Variant:
    xml, weights = to_openvino(data, compress_to_fp16=precision == "fp16")
    paths = (f"openvino/{name}.xml", f"openvino/{name}.bin")
    artifact = Artifact(
        name=name,
        kind="openvino-ir",
        precision=precision,
        backends=("openvino",),
        members=paths,
        float_layers=dict(kept or {}),
    )
    return Variant(artifact, {paths[0]: ("graph", xml), paths[1]: ("weights", weights)}, "openvino")
