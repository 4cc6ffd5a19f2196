"""The strongly typed FP16 variant of an FP32 graph, for releases that compute every type as the graph states it.

A layer stays in FP32 where FP16 could overflow or lose what matters, and each such layer is listed with its reason:

* an input or output came within a factor `HEADROOM` of FP16's largest value on the sample clips (clips not seen, and
  the partial sums of a convolution, live in that margin), or never reached FP16's normal range;
* a sum (mean, average pooling, norm, softmax) whose terms could add up beyond that margin; without sample clips every
  sum stays in FP32;
* a constant does not fit, or rounding it changes it by more than `CONSTANT_ERROR` (tensors as a whole; the scales of
  Q/DQ pairs one by one, since a scale that becomes 0 is refused);
* it belongs to a quantized convolution that stays in FP32, so that its Q/DQ pairs still fuse.

Everything else, sigmoids included, is FP16. Neighbours in FP32 pass tensors on in FP32. Ranges are measured on the
FP32 graph, because ONNX Runtime computes FP16 in FP32 on CPUs and so never shows an overflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, TensorProto, version_converter

from edgeact.errors import ConversionError
from edgeact.export.graph.activation_extrema import largest_values
from edgeact.export.graph.view import GraphView, attribute, node_label, view
from edgeact.export.tensorrt.cast import half_variables, to_half

__all__ = ["CONSTANT_ERROR", "HEADROOM", "Fp16Result", "to_strong_fp16"]

HEADROOM = 4.0
CONSTANT_ERROR = 2.0**-8

_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
_LIMIT = _LARGEST / HEADROOM
_OPSET_OF_HALF_SCALES = 19
_IR_OF_OPSET_19 = 9
_QUANTIZED_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_QDQ = ("QuantizeLinear", "DequantizeLinear")
# Operators that add terms up: the power of the terms they add.
_SUMS = {
    "AveragePool": 1,
    "GlobalAveragePool": 1,
    "GroupNormalization": 2,
    "InstanceNormalization": 2,
    "LayerNormalization": 2,
    "LogSoftmax": 0,
    "ReduceL1": 1,
    "ReduceL2": 2,
    "ReduceLogSum": 1,
    "ReduceLogSumExp": 0,
    "ReduceMean": 1,
    "ReduceSum": 1,
    "ReduceSumSquare": 2,
    "Softmax": 0,
}


@dataclass(frozen=True)
class Fp16Result:
    """An FP16 graph and what was decided on the way.

    `float_layers` holds the layers left in FP32 with the reason, `largest_activation` the largest absolute value any
    tensor had on the sample clips (None: there were none), `flushed_weights` how many non-zero weights of a layer
    are too small for FP16 and became 0. `fp32_under_weak_typing` names those of the float layers that weak typing must
    be told of: its Q/DQ pairs have FP32 scales anyway, so they are left out with what only fuses with them.
    """

    model: onnx.ModelProto
    float_layers: dict[str, str] = field(default_factory=dict)
    largest_activation: float | None = None
    flushed_weights: dict[str, int] = field(default_factory=dict)
    fp32_under_weak_typing: tuple[str, ...] = ()


def to_strong_fp16(
    model: onnx.ModelProto,
    samples: Iterable[NDArray[np.float32]] | None,
    ranges: Mapping[str, float] | None = None,
) -> Fp16Result:
    """`model` (FP32, with or without Q/DQ) in FP16; input and output stay float32. `model` is not changed.

    `samples` are float32 arrays of the input's shape; pass preprocessed calibration clips, they are read once. With
    None, activations go unchecked. `ranges`, largest absolute values by tensor as `largest_values` gives them, stand
    for the samples where they are known already. Q/DQ pairs move to opset 19, the first with FP16 scales; other graphs
    keep theirs.
    Raises ConversionError naming the layer where FP32 itself is not finite, or where the graph cannot be restated.
    """
    model = _with_half_scales(model)
    graph = view(model)
    _require_straight(graph)
    if ranges is None and samples is not None:
        ranges = largest_values(model, samples)
    policy = _Policy(graph, ranges)
    reasons = {index: reason for index, node in enumerate(graph.nodes) if (reason := policy.reason(node))}
    nodes = list(graph.nodes)
    weak = tuple(node_label(nodes[index]) for index in sorted(reasons) if nodes[index].op_type not in _QDQ)
    _keep_quantized_units(graph, reasons)
    half = to_half(model, reasons)
    _check(half)
    return Fp16Result(
        model=half,
        float_layers={node_label(nodes[index]): reasons[index] for index in sorted(reasons)},
        largest_activation=max(ranges.values()) if ranges else None,
        flushed_weights={
            node_label(node): count
            for index, node in enumerate(nodes)
            if index not in reasons and (count := _flushed(graph, node))
        },
        fp32_under_weak_typing=weak,
    )


@dataclass(frozen=True)
class _Policy:
    """Which nodes stay in FP32, and why."""

    graph: GraphView
    ranges: Mapping[str, float] | None

    def reason(self, node: NodeProto) -> str | None:
        """Why the node must stay in FP32, or None."""
        floats = [name for name in (*node.input, *node.output) if self.graph.types.get(name) == TensorProto.FLOAT]
        if not floats or node.op_type == "Constant":
            return None
        schema = self.graph.schema(node)
        if schema is None or not half_variables(schema):
            return f"ONNX opset {self.graph.opset} has no FP16 {node.op_type}"
        return self._constants(node) or self._activations(floats) or self._sum(node)

    def _constants(self, node: NodeProto) -> str | None:
        for index, name in enumerate(node.input):
            value = _float_constant(self.graph, name)
            if value is None or value.size == 0:
                continue
            if not np.all(np.isfinite(value)):
                message = f"layer '{node_label(node)}' ({node.op_type}) has a constant that is not finite ('{name}')"
                raise ConversionError(f"{message}; expected finite weights: check the weights file")
            largest = float(np.max(np.abs(value)))
            if largest > _LARGEST:
                return f"constant '{name}' reaches {largest:.3g}; FP16 ends at {_LARGEST:.0f}"
            error = _rounding_error(value, one_by_one=node.op_type in _QDQ and index == 1)
            if error > CONSTANT_ERROR:
                return f"constant '{name}' changes by {error:.1%} in FP16"
        return None

    def _activations(self, names: list[str]) -> str | None:
        for name in names:
            largest = (self.ranges or {}).get(name, 0.0)
            if largest > _LIMIT:
                return f"'{name}' reaches {largest:.3g} on the sample clips; FP16 is trusted up to {_LIMIT:.0f}"
            if 0 < largest < _SMALLEST_NORMAL:
                return f"'{name}' stays below {largest:.3g} on the sample clips, where FP16 loses digits"
        return None

    def _sum(self, node: NodeProto) -> str | None:
        power = _SUMS.get(node.op_type)
        if power is None:
            return None
        if self.ranges is None:
            return "it adds up many terms, and there were no sample clips to bound them"
        terms = _terms(self.graph, node)
        if terms is None:
            return "it adds up an unknown number of terms"
        bound = terms * self.ranges.get(node.input[0], _LIMIT) ** power
        if bound > _LIMIT:
            return f"it adds up {terms} terms to {bound:.3g} at most; FP16 is trusted up to {_LIMIT:.0f}"
        return None


def _with_half_scales(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in an opset whose Q/DQ take FP16 scales, where it has Q/DQ."""
    graph = view(model)
    if graph.opset >= _OPSET_OF_HALF_SCALES or not any(node.op_type in _QDQ for node in graph.nodes):
        return model
    try:
        newer = version_converter.convert_version(model, _OPSET_OF_HALF_SCALES)
    except RuntimeError as error:  # all that the C++ converter throws
        reason = str(error).splitlines()[0]
        message = f"the graph cannot be restated in opset {_OPSET_OF_HALF_SCALES}, which FP16 Q/DQ need: {reason}"
        raise ConversionError(f"{message}; export in FP16 without INT8") from error
    newer.ir_version = max(newer.ir_version, _IR_OF_OPSET_19)
    return newer


def _require_straight(graph: GraphView) -> None:
    for node in graph.nodes:
        if any(item.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for item in node.attribute):
            message = f"layer '{node_label(node)}' ({node.op_type}) holds a graph of its own; expected straight code"
            raise ConversionError(f"{message}: unroll it when exporting")


def _keep_quantized_units(graph: GraphView, reasons: dict[int, str]) -> None:
    """Extend the FP32 layers by what TensorRT fuses with them: a quantized layer and its Q/DQ pairs stay together."""
    units = tuple(_quantized_units(graph))
    size = -1
    while size != len(reasons):  # units share the Q/DQ pairs of activations
        size = len(reasons)
        for layer, members in units:
            if any(member in reasons for member in members):
                for member in members:
                    reasons.setdefault(member, f"part of the quantized layer '{layer}', which stays in FP32")


def _quantized_units(graph: GraphView) -> Iterator[tuple[str, list[int]]]:
    """Label and node indices of every quantized layer: itself, what dequantizes its inputs, what quantizes those."""
    indices = {name: index for index, node in enumerate(graph.nodes) for name in node.output}
    for node in graph.nodes:
        dequantizers = [graph.producers[name] for name in node.input[:2] if graph.is_dequantized(name)]
        if node.op_type in _QUANTIZED_OPS and dequantizers:
            quantizers = [graph.producers.get(pair.input[0]) for pair in dequantizers]
            unit = (node, *dequantizers, *(pair for pair in quantizers if pair and pair.op_type == "QuantizeLinear"))
            yield node_label(node), [indices[member.output[0]] for member in unit]


def _float_constant(graph: GraphView, name: str) -> NDArray[np.float32] | None:
    return graph.constant(name) if graph.types.get(name) == TensorProto.FLOAT else None


def _rounding_error(value: NDArray[np.float32], *, one_by_one: bool) -> float:
    """Relative change by rounding to float16: the largest of all elements, or that of the tensor's norm."""
    wide = value.astype(np.float64)
    change = np.abs(wide - value.astype(np.float16))
    if one_by_one:
        return float(np.max(change / np.where(wide == 0, 1.0, np.abs(wide))))
    norm = float(np.linalg.norm(wide))
    return float(np.linalg.norm(change)) / norm if norm else 0.0


def _flushed(graph: GraphView, node: NodeProto) -> int:
    values = [value for name in node.input if (value := _float_constant(graph, name)) is not None]
    return sum(int(np.count_nonzero(value) - np.count_nonzero(value.astype(np.float16))) for value in values)


def _terms(graph: GraphView, node: NodeProto) -> int | None:
    """How many terms one output element adds up, at most; None where shapes are unknown."""
    if node.op_type == "AveragePool":
        return int(math.prod(attribute(node, "kernel_shape", ())))
    shape, result = (_static_shape(graph, name) for name in (node.input[0], node.output[0]))
    if shape is None or result is None:
        return None
    if node.op_type in ("Softmax", "LogSoftmax"):
        return shape[int(attribute(node, "axis", -1))]
    is_reduction = node.op_type.startswith("Reduce") or node.op_type == "GlobalAveragePool"
    return math.prod(shape) // math.prod(result) if is_reduction else math.prod(shape)


def _static_shape(graph: GraphView, name: str) -> tuple[int, ...] | None:
    sides = graph.shapes.get(name)
    known = tuple(side for side in sides or () if side)
    return known if sides is not None and len(known) == len(sides) else None


def _check(model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).splitlines()[0]
        message = f"the graph cannot be restated in FP16: {reason}"
        raise ConversionError(f"{message}; export this model in FP32, or leave the layer named here out") from error
