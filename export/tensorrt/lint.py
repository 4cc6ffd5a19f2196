"""What a TensorRT release refuses or silently does otherwise, found in the ONNX graph before it reaches the board.

Jetson's TensorRT cannot be run off the board, so its rules are held here, one function each; TensorRT for RTX is
asked itself (`tensorrt_rtx`), and the tests hold the rules that both share against it. Sources: the operator tables
of github.com/onnx/onnx-tensorrt (`docs/operators.md` of every release branch), NvInfer.h of every release branch,
and builds with TensorRT for RTX 1.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from edgeact.devices import TensorRtDialect
from edgeact.errors import LintError
from edgeact.export.graph.view import GraphView, attribute, node_label, view
from edgeact.export.quantize.tensorrt_rules import int8_exclusion_reason

__all__ = ["RULES", "Finding", "lint_graph", "raise_on_errors"]

Severity = Literal["error", "warning"]
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_QDQ = ("QuantizeLinear", "DequantizeLinear")
_VOLUME_RANK = 5  # (N, C, T, H, W)
_FULL_CHANNELS = 16
_NARROW_VOLUME_ISSUE = "github.com/NVIDIA/TensorRT/issues/2125"
_OPSET_OF_10 = 20  # parsers of TensorRT 10 whose limit is not published take at least this
_OPSET_OF_HALF_SCALES = 19

# Operators without an importer, or with one only since a release; and what to do instead.
_FROM_RELEASE: dict[str, tuple[tuple[int, int] | None, str]] = {
    "DFT": (None, "lower the transform to matrix products with constant cosine and sine matrices"),
    "STFT": ((10, 5), "lower the transform to matrix products with constant cosine and sine matrices"),
    "QLinearConv": (None, "quantize with Q/DQ pairs instead of integer operators"),
    "QLinearMatMul": (None, "quantize with Q/DQ pairs instead of integer operators"),
    "ConvInteger": (None, "quantize statically with Q/DQ pairs"),
    "MatMulInteger": (None, "quantize statically with Q/DQ pairs"),
    "DynamicQuantizeLinear": (None, "quantize statically with Q/DQ pairs"),
    "Unique": (None, "remove it: the shape of its result depends on the data"),
    "Compress": (None, "remove it: the shape of its result depends on the data"),
    "NonZero": ((8, 5), "remove it: the shape of its result depends on the data"),
    "HardSwish": ((8, 4), "write it as x * HardSigmoid(x)"),
    "LayerNormalization": ((8, 6), "export with an opset below 17, which spells it out"),
    "GroupNormalization": ((8, 6), "write it as InstanceNormalization between two Reshapes"),
}


@dataclass(frozen=True)
class Finding:
    """One remark about one layer: what, expected, got and what to do are in the message."""

    rule: str
    node: str
    message: str
    severity: Severity


@dataclass(frozen=True)
class Subject:
    """What a rule looks at: the graph, and the release and GPU it is meant for."""

    graph: GraphView
    dialect: TensorRtDialect
    sm: str | None

    def is_before(self, release: tuple[int, int]) -> bool:
        """Whether the dialect is a TensorRT older than `release`; TensorRT for RTX is older than none."""
        major, minor = self.dialect.version.split(".")[:2]
        return self.dialect.product == "tensorrt" and (int(major), int(minor)) < release

    @property
    def title(self) -> str:
        """The release as messages name it."""
        product = "TensorRT for RTX" if self.dialect.product == "tensorrt-rtx" else "TensorRT"
        return f"{product} {self.dialect.version}"

    def nodes(self, *op_types: str) -> Iterator[NodeProto]:
        """The nodes of these operators, in graph order."""
        return (node for node in self.graph.nodes if node.op_type in op_types)


Rule = Callable[[Subject], Iterable[Finding]]


def lint_graph(model: onnx.ModelProto, dialect: TensorRtDialect, *, sm: str | None = None) -> tuple[Finding, ...]:
    """Everything in `model` that `dialect` refuses (errors) or handles worse than it could (warnings).

    `sm` is the GPU's compute capability, '8.7'; rules that depend on it stay silent without.
    """
    subject = Subject(view(model), dialect, sm)
    return tuple(finding for rule in RULES for finding in rule(subject))


def raise_on_errors(findings: Iterable[Finding]) -> None:
    """Raise LintError listing every finding of severity 'error', with its layer; nothing where there is none."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        lines = "\n".join(f"  {finding.node}: {finding.message} [{finding.rule}]" for finding in errors)
        raise LintError(f"the graph breaks {len(errors)} rule(s) of its TensorRT release:\n{lines}")


def opset(subject: Subject) -> Iterator[Finding]:
    """The graph's opset is one that the release's parser reads."""
    limit, got = subject.dialect.max_opset, subject.graph.opset
    if limit is not None and got > limit:
        yield Finding(
            "opset",
            "graph",
            f"{subject.title} reads ONNX opset {limit} at most, got {got}; export with opset {subject.dialect.opset}",
            "error",
        )
    elif limit is None and got > _OPSET_OF_10:
        yield Finding(
            "opset",
            "graph",
            f"{subject.title} is known to read ONNX opset {_OPSET_OF_10}, got {got}; "
            f"export with opset {subject.dialect.opset}",
            "warning",
        )


def static_shapes(subject: Subject) -> Iterator[Finding]:
    """Every input has a fixed shape."""
    constants = subject.graph.constants
    for value in subject.graph.model.graph.input:
        shape = subject.graph.shapes.get(value.name)
        if value.name not in constants and (shape is None or any(not size for size in shape)):
            got = "no shape" if shape is None else str(tuple(size or "?" for size in shape))
            yield Finding(
                "static-shapes",
                value.name,
                f"expected an input of fixed shape, got {got}; export with the clip's own batch, frames and size",
                "error",
            )


def operators(subject: Subject) -> Iterator[Finding]:
    """Every operator has an importer in the release."""
    for node in subject.graph.nodes:
        if subject.graph.schema(node) is None:
            message = f"expected an operator of ONNX opset {subject.graph.opset}, got {node.domain}.{node.op_type}"
            yield Finding("operators", node_label(node), f"{message}; write it with ONNX operators", "error")
            continue
        since, advice = _FROM_RELEASE.get(node.op_type, ((0, 0), ""))
        if since is None or subject.is_before(since):
            newer = "" if since is None else f" before {since[0]}.{since[1]}"
            yield Finding(
                "operators", node_label(node), f"{subject.title} has no {node.op_type}{newer}; {advice}", "error"
            )


def control_flow(subject: Subject) -> Iterator[Finding]:
    """No part of the graph runs conditionally or repeatedly."""
    for node in subject.nodes("If", "Loop", "Scan"):
        message = f"{node.op_type} is control flow, which TensorRT cannot fuse; expected a straight graph"
        yield Finding("control-flow", node_label(node), f"{message}; unroll it when exporting", "warning")


def pooling(subject: Subject) -> Iterator[Finding]:
    """MaxPool returns no indices and has no dilation."""
    for node in subject.nodes("MaxPool"):
        if len(node.output) > 1 and node.output[1]:
            message = "TensorRT's MaxPool returns no indices; expected one output, got two"
            yield Finding("pooling", node_label(node), f"{message}; pool without return_indices", "error")
        dilations = list(attribute(node, "dilations", ()))
        if any(step != 1 for step in dilations):
            message = f"TensorRT's MaxPool has no dilation; expected ones, got {dilations}"
            yield Finding("pooling", node_label(node), f"{message}; use a larger kernel or a stride", "error")


def types(subject: Subject) -> Iterator[Finding]:
    """Inputs that an operator wants of one type are of one type (a strongly typed network converts none)."""
    graph = subject.graph
    for node in graph.nodes:
        schema = graph.schema(node)
        if schema is None:
            continue
        groups: dict[str, set[int]] = {}
        for index, name in enumerate(node.input):
            formal = schema.inputs[min(index, len(schema.inputs) - 1)]
            if name and graph.types.get(name) and formal.is_homogeneous:
                groups.setdefault(formal.type_str, set()).add(graph.types[name])
        for mixed in (group for group in groups.values() if len(group) > 1):
            names = " and ".join(sorted(TensorProto.DataType.Name(kind) for kind in mixed))
            message = f"{node.op_type} wants inputs of one type, got {names}"
            yield Finding("types", node_label(node), f"{message}; cast them to one type", "error")


def strong_precision(subject: Subject) -> Iterator[Finding]:
    """A release that takes its precision from the graph alone is not given FP32 convolutions by oversight."""
    if subject.dialect.typing != "strong":
        return
    slow = [node for node in subject.nodes(*_CONVOLUTIONS) if _is_fp32(subject.graph, node)]
    if slow:
        more = f" and {len(slow) - 1} more" if len(slow) > 1 else ""
        message = f"{subject.title} computes every type as the graph states it, and this layer{more} states FP32"
        yield Finding("strong-precision", node_label(slow[0]), f"{message}; give it the FP16 graph", "warning")


def turing_volumes(subject: Subject) -> Iterator[Finding]:
    """TensorRT for RTX has no FP32 3-D convolution for compute capability 7.5."""
    if subject.dialect.product != "tensorrt-rtx" or subject.sm != "7.5":
        return
    for node in subject.nodes(*_CONVOLUTIONS):
        if _is_fp32(subject.graph, node) and len(subject.graph.shapes.get(node.input[0], ())) == _VOLUME_RANK:
            message = f"{subject.title} has no FP32 3-D convolution for SM 7.5; expected FP16, got FP32"
            yield Finding("turing-volumes", node_label(node), f"{message}; give it the FP16 graph", "error")


def constant_weights(subject: Subject) -> Iterator[Finding]:
    """The weight of a convolution is a constant, through Q/DQ at most; a rule of the parsers before 8.5."""
    severity: Severity = "error" if subject.is_before((8, 5)) else "warning"
    for node in subject.nodes(*_CONVOLUTIONS):
        if subject.graph.weight_shape(node) is None:
            message = "expected a constant weight, got a computed one"
            yield Finding("constant-weights", node_label(node), f"{message}; fold it before exporting", severity)


def quantization_support(subject: Subject) -> Iterator[Finding]:
    """Q/DQ pairs only where the release and the GPU compute INT8."""
    first = next(subject.nodes(*_QDQ), None)
    if first is not None and not subject.dialect.qdq:
        message = f"{subject.title} on this GPU computes no INT8; expected a graph without Q/DQ, got {first.op_type}"
        yield Finding("quantization-support", node_label(first), f"{message}; export in FP16", "error")


def int32_bias(subject: Subject) -> Iterator[Finding]:
    """Biases stay FP32: TensorRT dequantizes no INT32."""
    for node in subject.nodes("DequantizeLinear"):
        if subject.graph.types.get(node.input[0]) == TensorProto.INT32:
            message = "TensorRT dequantizes 8-bit tensors only, got INT32 (a quantized bias)"
            yield Finding("int32-bias", node_label(node), f"{message}; quantize with QuantizeBias=False", "error")


def zero_points(subject: Subject) -> Iterator[Finding]:
    """Quantization is symmetric: every zero point is a constant 0."""
    for node in subject.nodes(*_QDQ):
        if len(node.input) < 3 or not node.input[2]:
            continue
        value = subject.graph.constant(node.input[2])
        if value is None or np.any(value):
            got = "a computed one" if value is None else str(value.ravel()[np.flatnonzero(value)[0]])
            message = f"expected zero point 0, got {got}"
            yield Finding("zero-points", node_label(node), f"{message}; quantize symmetrically", "error")


def signed_int8(subject: Subject) -> Iterator[Finding]:
    """Quantized values are int8; TensorRT reads uint8 as int8, which changes what is computed."""
    for node in subject.nodes(*_QDQ):
        quantized = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
        if subject.graph.types.get(quantized) == TensorProto.UINT8:
            implied = "" if len(node.input) > 2 and node.input[2] else " (what ONNX means without a zero point)"
            message = f"expected int8, got uint8{implied}; TensorRT would read it as int8"
            yield Finding("signed-int8", node_label(node), f"{message}; quantize to int8, zero point 0", "error")


def scales(subject: Subject) -> Iterator[Finding]:
    """Scales are constant, finite and positive; FP16 ones need opset 19."""
    graph = subject.graph
    for node in subject.nodes(*_QDQ):
        value = graph.constant(node.input[1])
        bad = None if value is None else value[~(np.isfinite(value) & (value > 0))]
        if value is None or bad is None or bad.size:
            got = "a computed one" if bad is None else f"{float(bad[0])}"
            message = f"expected a constant, finite scale above 0, got {got}"
            yield Finding("scales", node_label(node), f"{message}; calibrate this tensor again", "error")
        elif value.dtype == np.float16 and graph.opset < _OPSET_OF_HALF_SCALES:
            message = f"FP16 scales need opset {_OPSET_OF_HALF_SCALES}, got opset {graph.opset}"
            yield Finding("scales", node_label(node), f"{message}; restate the graph in opset 19", "error")


def scale_axes(subject: Subject) -> Iterator[Finding]:
    """Activations have one scale; weights one, or one per output channel."""
    graph = subject.graph
    wanted = {
        node.input[1]: 1 if node.op_type == "ConvTranspose" else 0
        for node in subject.nodes(*_CONVOLUTIONS)
        if graph.is_dequantized(node.input[1])
    }
    for node in subject.nodes(*_QDQ):
        scale = graph.constant(node.input[1])
        if scale is None or scale.size == 1:
            continue
        axis = attribute(node, "axis", 1) % len(graph.shapes[node.input[0]])
        if graph.source(node.output[0]) not in graph.constants:
            message = f"expected one scale for an activation, got {scale.size}"
            yield Finding("scale-axes", node_label(node), f"{message}; quantize activations per tensor", "error")
        elif axis != wanted.get(node.output[0], axis):
            message = f"expected weight scales along axis {wanted[node.output[0]]} (output channels), got axis {axis}"
            yield Finding("scale-axes", node_label(node), f"{message}; quantize per output channel", "error")


def group_size(subject: Subject) -> Iterator[Finding]:
    """INT8 groups hold channels in fours, on both sides (NvInfer.h); depthwise ones have kernels of their own."""
    if subject.dialect.product != "tensorrt":
        return
    for node in _int8_convolutions(subject):
        shape, group = subject.graph.weight_shape(node), attribute(node, "group", 1)
        if group == 1 or shape is None:
            continue
        sizes = (shape[1], shape[0] // group)
        if sizes != (1, 1) and any(size % 4 for size in sizes):
            message = f"INT8 wants group sizes in fours, got {sizes[0]} channels in and {sizes[1]} out per group"
            yield Finding("group-size", node_label(node), f"{message}; leave this layer in float", "error")


def small_channels(subject: Subject) -> Iterator[Finding]:
    """Convolutions of few channels stay in float where TensorRT has no INT8 kernel for them."""
    graph = subject.graph
    severity: Severity = "error" if subject.dialect.product == "tensorrt" else "warning"
    inputs = {value.name for value in graph.model.graph.input}
    for node in _int8_convolutions(subject):
        shape = graph.weight_shape(node)
        is_first = graph.source(node.input[0]) in inputs
        reason = int8_exclusion_reason(shape, attribute(node, "group", 1), is_first)
        if reason is None and _is_narrow_volume(shape) and subject.is_before((8, 4)):
            reason = f"TensorRT 8.2 fails to build quantized 3-D convolutions of few channels ({_NARROW_VOLUME_ISSUE})"
        if reason:
            yield Finding("small-channels", node_label(node), f"{reason}; leave this layer in float", severity)


def _int8_convolutions(subject: Subject) -> Iterator[NodeProto]:
    for node in subject.nodes("Conv"):
        if all(subject.graph.is_dequantized(name) for name in node.input[:2]):
            yield node


def _is_narrow_volume(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and len(shape) == _VOLUME_RANK and shape[1] < _FULL_CHANNELS


def _is_fp32(graph: GraphView, node: NodeProto) -> bool:
    return graph.types.get(node.input[0]) == TensorProto.FLOAT


RULES: tuple[Rule, ...] = (
    opset,
    static_shapes,
    operators,
    control_flow,
    pooling,
    types,
    strong_precision,
    turing_volumes,
    constant_weights,
    quantization_support,
    int32_bias,
    zero_points,
    signed_int8,
    scales,
    scale_axes,
    group_size,
    small_channels,
)
