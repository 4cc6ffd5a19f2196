"""Lint rules for operators, shapes and types."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from edgeact.export.graph.values import (
    describe_dims,
    dims_of,
    name_of,
    node_label,
    operand,
    schema_of,
    static_dims,
    weight_dims,
)
from edgeact.export.tensorrt.findings import Finding, Severity, Subject

__all__ = [
    "constant_weights",
    "control_flow",
    "operators",
    "opset",
    "pooling",
    "static_shapes",
    "strong_precision",
    "turing_volumes",
    "types",
]

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_VOLUME_RANK = 5  # (N, C, T, H, W)
_OPSET_OF_10 = 20  # parsers of TensorRT 10 whose limit is not published read at least this opset

# Operators without an importer, or with one only since a release; and what to do instead.
_FROM_RELEASE: dict[str, tuple[tuple[int, int] | None, str]] = {
    "DFT": (None, "lower the transform to matrix products with constant cosine and sine matrices"),
    "STFT": ((10, 5), "lower the transform to matrix products with constant cosine and sine matrices"),
    "QLinearConv": (None, "quantize with Q/DQ pairs instead of integer operators"),
    "QLinearMatMul": (None, "quantize with Q/DQ pairs instead of integer operators"),
    "ConvInteger": (None, "quantize statically with Q/DQ pairs"),
    "MatMulInteger": (None, "quantize statically with Q/DQ pairs"),
    "DynamicQuantizeLinear": (None, "quantize statically with Q/DQ pairs"),
    "Unique": (None, "remove the operator: the shape of its result depends on the data"),
    "Compress": (None, "remove the operator: the shape of its result depends on the data"),
    "NonZero": ((8, 5), "remove the operator: the shape of its result depends on the data"),
    "HardSwish": ((8, 4), "write x * HardSigmoid(x)"),
    "LayerNormalization": ((8, 6), "export with an opset below 17, which writes the norm as single operators"),
    "GroupNormalization": ((8, 6), "write InstanceNormalization between two Reshapes"),
}


def opset(subject: Subject) -> Iterator[Finding]:
    """Require an opset that the release's parser reads."""
    limit, got = subject.dialect.max_opset, subject.opset
    remedy = f"export with opset {subject.dialect.opset}"
    if limit is not None and got > limit:
        expected = f"opset {limit} at most, the last that {subject.title} reads"
        yield Finding("opset", "graph", "error", expected, f"opset {got}", remedy)
    elif limit is None and got > _OPSET_OF_10:
        expected = f"opset {_OPSET_OF_10} at most, the last that {subject.title} is known to read"
        yield Finding("opset", "graph", "warning", expected, f"opset {got}", remedy)


def static_shapes(subject: Subject) -> Iterator[Finding]:
    """Require a static shape of every input."""
    for value in subject.model.graph.inputs:
        dims = static_dims(value)
        if not value.is_initializer() and (dims is None or 0 in dims):
            yield Finding(
                "static-shapes",
                name_of(value),
                "error",
                "an input of static shape",
                describe_dims(value),
                "export with the clip's own batch, frames and size",
            )


def operators(subject: Subject) -> Iterator[Finding]:
    """Require an importer in the release for every operator."""
    for node in subject.nodes():
        if schema_of(node, subject.opset) is None:
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            expected = f"an operator of ONNX opset {subject.opset}"
            yield Finding("operators", node_label(node), "error", expected, name, "write the layer with ONNX operators")
            continue
        since, remedy = _FROM_RELEASE.get(node.op_type, ((0, 0), ""))
        if since is None or subject.is_before(since):
            got = node.op_type if since is None else f"{node.op_type}, which came with {since[0]}.{since[1]}"
            yield Finding("operators", node_label(node), "error", f"an operator of {subject.title}", got, remedy)


def control_flow(subject: Subject) -> Iterator[Finding]:
    """Warn of nodes that run conditionally or repeatedly, which TensorRT cannot fuse."""
    for node in subject.nodes("If", "Loop", "Scan"):
        yield Finding(
            "control-flow",
            node_label(node),
            "warning",
            "a graph without control flow, which TensorRT cannot fuse",
            node.op_type,
            "unroll it when exporting",
        )


def pooling(subject: Subject) -> Iterator[Finding]:
    """Require MaxPool without indices and dilation."""
    for node in subject.nodes("MaxPool"):
        if len(node.outputs) > 1 and node.outputs[1].name:
            expected = "MaxPool with one output, since TensorRT returns no indices"
            yield Finding("pooling", node_label(node), "error", expected, "two outputs", "pool without return_indices")
        dilations = list(node.attributes.get_ints("dilations", ()))
        if set(dilations) - {1}:
            expected, remedy = "MaxPool without dilation", "use a larger kernel or a stride"
            yield Finding("pooling", node_label(node), "error", expected, f"dilations {dilations}", remedy)


def types(subject: Subject) -> Iterator[Finding]:
    """Require equal types of the inputs that share a type variable: a strongly typed network converts none."""
    for node in subject.nodes():
        for mixed in _input_types(node, subject.opset):
            if len(mixed) > 1:
                yield Finding(
                    "types",
                    node_label(node),
                    "error",
                    f"{node.op_type} inputs of one type",
                    " and ".join(sorted(kind.name for kind in mixed)),
                    "cast them to one type",
                )


def _input_types(node: ir.Node, opset: int) -> list[set[ir.DataType]]:
    """Return the types of the inputs that share a type variable, by variable."""
    schema = schema_of(node, opset)
    groups: dict[str, set[ir.DataType]] = {}
    for index, value in enumerate(node.inputs):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)] if schema else None
        if formal and value is not None and value.dtype is not None and formal.is_homogeneous:
            groups.setdefault(formal.type_str, set()).add(value.dtype)
    return list(groups.values())


def strong_precision(subject: Subject) -> Iterator[Finding]:
    """Warn of FP32 convolutions under strong typing, by which the graph alone decides the precision."""
    if subject.dialect.typing != "strong":
        return
    slow = [node for node in subject.nodes(*_CONVOLUTIONS) if _is_fp32(node)]
    if slow:
        more = f" here and in {len(slow) - 1} more layers" if len(slow) > 1 else ""
        expected = f"FP16, since {subject.title} computes every tensor in the type the graph states"
        yield Finding(
            "strong-precision", node_label(slow[0]), "warning", expected, f"FP32{more}", "give it the FP16 graph"
        )


def turing_volumes(subject: Subject) -> Iterator[Finding]:
    """Require FP16 of 3-D convolutions for compute capability 7.5, for which TensorRT for RTX has no FP32 kernels."""
    if subject.dialect.product != "tensorrt-rtx" or subject.sm != "7.5":
        return
    for node in subject.nodes(*_CONVOLUTIONS):
        if _is_fp32(node) and len(dims_of(operand(node, 0)) or ()) == _VOLUME_RANK:
            expected = f"FP16, since {subject.title} has no FP32 3-D convolution for SM 7.5"
            yield Finding("turing-volumes", node_label(node), "error", expected, "FP32", "give it the FP16 graph")


def constant_weights(subject: Subject) -> Iterator[Finding]:
    """Require constant weights of convolutions, through Q/DQ at most, as the parsers before 8.5 do."""
    severity: Severity = "error" if subject.is_before((8, 5)) else "warning"
    for node in subject.nodes(*_CONVOLUTIONS):
        if weight_dims(node) is None:
            yield Finding(
                "constant-weights",
                node_label(node),
                severity,
                "a constant weight",
                "a computed weight",
                "fold the weight before exporting",
            )


def _is_fp32(node: ir.Node) -> bool:
    return operand(node, 0).dtype == ir.DataType.FLOAT
