"""Lint rules for quantized graphs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edgeact.export.graph.values import (
    constant_array,
    dims_of,
    is_constant,
    is_dequantized,
    node_label,
    operand,
    optional_operand,
    quantized_source,
    weight_dims,
)
from edgeact.export.quantize.tensorrt_rules import int8_exclusion_reason
from edgeact.export.tensorrt.findings import KEEP_IN_FLOAT, Finding, Severity, Subject
from edgeact.phrases import phrase

__all__ = [
    "group_size",
    "int32_bias",
    "quantization_support",
    "scale_axes",
    "scales",
    "signed_int8",
    "small_channels",
    "zero_points",
]

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_VOLUME_RANK = 5  # (N, C, T, H, W)
_FULL_CHANNELS = 16
_GROUP_MULTIPLE = 4
_NARROW_VOLUME_ISSUE = "github.com/NVIDIA/TensorRT/issues/2125"
_OPSET_OF_HALF_SCALES = 19


def quantization_support(subject: Subject) -> Iterator[Finding]:
    """Require a graph without Q/DQ pairs if the release or the GPU computes no INT8."""
    first = next(subject.nodes(*_QDQ), None)
    if first is not None and not subject.dialect.qdq:
        expected = f"no Q/DQ, since {subject.title} on this GPU computes no INT8"
        yield Finding("quantization-support", node_label(first), "error", expected, first.op_type, "export in FP16")


def int32_bias(subject: Subject) -> Iterator[Finding]:
    """Require FP32 biases: TensorRT dequantizes no INT32."""
    for node in subject.nodes("DequantizeLinear"):
        if operand(node, 0).dtype == ir.DataType.INT32:
            expected, got = "an 8-bit tensor to dequantize", "INT32 (a quantized bias)"
            yield Finding("int32-bias", node_label(node), "error", expected, got, "quantize with QuantizeBias=False")


def zero_points(subject: Subject) -> Iterator[Finding]:
    """Require symmetric quantization: every zero point is a constant 0."""
    for node in subject.nodes(*_QDQ):
        zero_point = optional_operand(node, 2)
        array = constant_array(zero_point)
        if zero_point is None or (array is not None and not array.any()):
            continue
        got = "a computed zero point" if array is None else str(array.ravel()[np.flatnonzero(array)[0]])
        yield Finding("zero-points", node_label(node), "error", "zero point 0", got, "quantize symmetrically")


def signed_int8(subject: Subject) -> Iterator[Finding]:
    """Require int8 values: TensorRT reads uint8 as int8, which changes the result."""
    for node in subject.nodes(*_QDQ):
        quantized = node.outputs[0] if node.op_type == "QuantizeLinear" else operand(node, 0)
        if quantized.dtype == ir.DataType.UINT8:
            implied = "" if optional_operand(node, 2) else " (ONNX's default without a zero point)"
            expected, remedy = "int8, as which TensorRT reads every 8-bit tensor", "quantize to int8, zero point 0"
            yield Finding("signed-int8", node_label(node), "error", expected, f"uint8{implied}", remedy)


def scales(subject: Subject) -> Iterator[Finding]:
    """Require constant, finite and positive scales, and opset 19 for FP16 scales."""
    for node in subject.nodes(*_QDQ):
        array = constant_array(operand(node, 1))
        bad = None if array is None else array[~(np.isfinite(array) & (array > 0))]
        if array is None or bad is None or bad.size:
            got = "a computed scale" if bad is None else f"{float(bad[0])}"
            expected, remedy = "a constant, finite scale above 0", "calibrate this tensor again"
            yield Finding("scales", node_label(node), "error", expected, got, remedy)
        elif array.dtype == np.float16 and subject.opset < _OPSET_OF_HALF_SCALES:
            expected, got = f"opset {_OPSET_OF_HALF_SCALES} for FP16 scales", f"opset {subject.opset}"
            remedy = f"restate the graph in opset {_OPSET_OF_HALF_SCALES}"
            yield Finding("scales", node_label(node), "error", expected, got, remedy)


def scale_axes(subject: Subject) -> Iterator[Finding]:
    """Require a single scale per activation, and a scale per weight or per output channel."""
    wanted = {
        operand(node, 1): 1 if node.op_type == "ConvTranspose" else 0
        for node in subject.nodes("Conv", "ConvTranspose")
        if is_dequantized(operand(node, 1))
    }
    for node in subject.nodes(*_QDQ):
        scale, output = constant_array(operand(node, 1)), node.outputs[0]
        if scale is None or scale.size == 1:
            continue
        axis = node.attributes.get_int("axis", 1) % len(dims_of(operand(node, 0)) or (1,))
        if not is_constant(quantized_source(output)):
            expected, got = "one scale for an activation", f"{scale.size} scales"
            yield Finding("scale-axes", node_label(node), "error", expected, got, "quantize activations per tensor")
        elif axis != wanted.get(output, axis):
            expected = f"weight scales along axis {wanted[output]} (output channels)"
            remedy = "quantize per output channel"
            yield Finding("scale-axes", node_label(node), "error", expected, f"axis {axis}", remedy)


def group_size(subject: Subject) -> Iterator[Finding]:
    """Require groups of 4n channels on both sides (NvInfer.h), or depthwise groups, which have separate kernels."""
    if subject.dialect.product != "tensorrt":
        return
    for node in _int8_convolutions(subject):
        shape, group = weight_dims(node), node.attributes.get_int("group", 1)
        if group == 1 or shape is None:
            continue
        inputs, outputs = shape[1], shape[0] // group
        if (inputs, outputs) != (1, 1) and (inputs % _GROUP_MULTIPLE or outputs % _GROUP_MULTIPLE):
            expected = f"INT8 groups of a multiple of {_GROUP_MULTIPLE} channels"
            got = f"{inputs} channels in and {outputs} out per group"
            yield Finding("group-size", node_label(node), "error", expected, got, KEEP_IN_FLOAT)


def small_channels(subject: Subject) -> Iterator[Finding]:
    """Require float of convolutions with so few channels that TensorRT has no INT8 kernel for them."""
    severity: Severity = "error" if subject.dialect.product == "tensorrt" else "warning"
    for node in _int8_convolutions(subject):
        shape, group = weight_dims(node), node.attributes.get_int("group", 1)
        is_first = quantized_source(operand(node, 0)).is_graph_input()
        if reason := int8_exclusion_reason(shape, group, is_first):
            expected = "a shape that an INT8 kernel takes"
            yield Finding("small-channels", node_label(node), severity, expected, phrase(reason), KEEP_IN_FLOAT)
        elif _is_narrow_volume(shape) and subject.is_before((8, 4)):
            expected = f"{_FULL_CHANNELS} input channels, since TensorRT 8.2 fails to build ({_NARROW_VOLUME_ISSUE})"
            got = f"a quantized 3-D convolution of {shape[1] if shape else 0}"
            yield Finding("small-channels", node_label(node), severity, expected, got, KEEP_IN_FLOAT)


def _int8_convolutions(subject: Subject) -> Iterator[ir.Node]:
    for node in subject.nodes("Conv"):
        if all(is_dequantized(value) for value in node.inputs[:2]):
            yield node


def _is_narrow_volume(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and len(shape) == _VOLUME_RANK and shape[1] < _FULL_CHANNELS
