"""The strongly typed FP16 form of an FP32 graph, for releases that compute every tensor in the type the graph states.

A layer is kept in FP32 if FP16 could overflow or lose too much precision, and is then listed with its reason:

* an input or output came within a factor `HEADROOM` of FP16's largest value on the sample clips (other clips, and the
  partial sums of a convolution, need that headroom), or never reached FP16's normal range;
* a sum (mean, average pooling, norm, softmax) whose terms could add up beyond that headroom; without sample clips every
  sum is kept in FP32;
* a constant does not fit, or rounding changes it by more than `CONSTANT_ERROR` (a tensor as a whole; the scales of Q/DQ
  pairs each by itself, since a scale that becomes 0 is refused);
* it belongs to a quantized convolution that is kept in FP32, so that its Q/DQ pairs still fuse.

Everything else, sigmoids included, is FP16. Neighbors in FP32 exchange tensors in FP32. Activations are measured on the
FP32 graph, because ONNX Runtime computes FP16 in FP32 on CPUs and so never shows an overflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import version_converter

from edgeact.errors import ConversionError
from edgeact.export.graph.activation_extrema import largest_values
from edgeact.export.graph.proto import find_fault, from_proto
from edgeact.export.graph.values import (
    constant_array,
    given_inputs,
    name_of,
    node_label,
    operand,
    opset_of,
    schema_of,
    static_dims,
)
from edgeact.export.tensorrt.cast import half_variables, to_half
from edgeact.layer_reasons import (
    ActivationOverflows,
    ActivationUnderflows,
    ConstantOverflows,
    ConstantRounded,
    FloatReason,
    FusedWithFp32Layer,
    NoFp16Operator,
    SumOverflows,
    SumUnbounded,
)

__all__ = ["CONSTANT_ERROR", "HEADROOM", "Fp16Result", "to_strong_fp16"]

HEADROOM = 4.0
CONSTANT_ERROR = 2.0**-8

_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
_LIMIT = _LARGEST / HEADROOM
_OPSET_OF_HALF_SCALES = 19
_IR_OF_OPSET_19 = 9
_QUANTIZED_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_SUBGRAPHS = {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}
_QDQ = ("QuantizeLinear", "DequantizeLinear")
# Operators that add terms up -> the power of the input that a term is.
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
    """An FP16 graph and the decisions about its layers."""

    model: ir.Model
    float_layers: Mapping[str, FloatReason]
    """Layer kept in FP32 -> reason."""
    largest_activation: float | None
    """Largest absolute value of any tensor on the sample clips; None without clips."""
    flushed_weights: Mapping[str, int]
    """Layer -> how many of its non-zero weights are too small for FP16 and became 0."""
    fp32_under_weak_typing: tuple[str, ...]
    """The float layers that a weakly typed build must constrain. Its Q/DQ pairs have FP32 scales anyway, so neither the
    pairs nor the layers that only fuse with them are listed."""


def to_strong_fp16(
    model: ir.Model,
    samples: Iterable[NDArray[np.float32]] | None,
    ranges: Mapping[str, float] | None = None,
) -> Fp16Result:
    """Return `model` (FP32, with or without Q/DQ) in FP16; input and output stay float32. `model` is not changed.

    `samples` are float32 arrays of the input's shape, preprocessed calibration clips, read once; None leaves the
    activations unchecked. `ranges` are the largest absolute values by tensor, as `largest_values` returns them, and
    replace the samples if they are known already. Graphs with Q/DQ pairs move to opset 19, the first with FP16 scales.
    Raises ConversionError if FP32 itself is not finite, naming the layer, or if the graph cannot be restated in FP16.
    """
    model = _with_half_scales(model)
    nodes = list(model.graph)
    _require_no_subgraphs(nodes)
    if ranges is None and samples is not None:
        ranges = largest_values(model, samples)
    policy = _Policy(opset_of(model), ranges)
    reasons = {node: reason for node in nodes if (reason := policy.reason(node))}
    weak = tuple(node_label(node) for node in nodes if node in reasons and node.op_type not in _QDQ)
    _keep_quantized_layers_whole(nodes, reasons)
    half = to_half(model, reasons)
    _check(half)
    return Fp16Result(
        model=half,
        float_layers={node_label(node): reasons[node] for node in nodes if node in reasons},
        largest_activation=max(ranges.values()) if ranges else None,
        flushed_weights={
            node_label(node): count for node in nodes if node not in reasons and (count := _count_flushed(node))
        },
        fp32_under_weak_typing=weak,
    )


@dataclass(frozen=True)
class _Policy:
    """The rules by which nodes are kept in FP32."""

    opset: int
    ranges: Mapping[str, float] | None

    def reason(self, node: ir.Node) -> FloatReason | None:
        """Return why `node` must be kept in FP32, None if it can be FP16."""
        floats = [value for value in (*given_inputs(node), *node.outputs) if value.dtype == ir.DataType.FLOAT]
        if not floats or node.op_type == "Constant":
            return None
        schema = schema_of(node, self.opset)
        if schema is None or not half_variables(schema):
            return NoFp16Operator(operator=node.op_type, opset=self.opset)
        return self._judge_constants(node) or self._judge_activations(floats) or self._judge_sum(node)

    def _judge_constants(self, node: ir.Node) -> FloatReason | None:
        for index, value in enumerate(node.inputs):
            array = _float_constant(value)
            if value is None or array is None or array.size == 0:
                continue
            name = name_of(value)
            if not np.all(np.isfinite(array)):
                raise ConversionError(
                    f"layer '{node_label(node)}' ({node.op_type}): expected finite weights, got NaN or infinity in "
                    f"'{name}'; check the weights file"
                )
            largest = float(np.max(np.abs(array)))
            if largest > _LARGEST:
                return ConstantOverflows(constant=name, largest=largest, limit=_LARGEST)
            error = _rounding_error(array, by_element=node.op_type in _QDQ and index == 1)
            if error > CONSTANT_ERROR:
                return ConstantRounded(constant=name, relative_change=error)
        return None

    def _judge_activations(self, values: Iterable[ir.Value]) -> FloatReason | None:
        for value in values:
            name = name_of(value)
            largest = (self.ranges or {}).get(name, 0.0)
            if largest > _LIMIT:
                return ActivationOverflows(tensor=name, largest=largest, limit=_LIMIT)
            if 0 < largest < _SMALLEST_NORMAL:
                return ActivationUnderflows(tensor=name, largest=largest)
        return None

    def _judge_sum(self, node: ir.Node) -> FloatReason | None:
        power = _SUMS.get(node.op_type)
        if power is None:
            return None
        if self.ranges is None:
            return SumUnbounded(operator=node.op_type, cause="no-sample-clips")
        terms = _count_terms(node)
        if terms is None:
            return SumUnbounded(operator=node.op_type, cause="unknown-terms")
        bound = terms * self.ranges.get(name_of(operand(node, 0)), _LIMIT) ** power
        if bound > _LIMIT:
            return SumOverflows(operator=node.op_type, terms=terms, bound=bound, limit=_LIMIT)
        return None


def _with_half_scales(model: ir.Model) -> ir.Model:
    """Return the graph in an opset whose Q/DQ take FP16 scales; the graph itself if it has no Q/DQ."""
    if opset_of(model) >= _OPSET_OF_HALF_SCALES or not any(node.op_type in _QDQ for node in model.graph):
        return model
    try:
        newer = version_converter.convert_version(ir.to_proto(model), _OPSET_OF_HALF_SCALES)
    except RuntimeError as error:  # the only class that the C++ converter throws
        reason = str(error).splitlines()[0]
        raise ConversionError(
            f"the graph cannot be restated in opset {_OPSET_OF_HALF_SCALES}, which FP16 Q/DQ need: {reason}; "
            "export in FP16 without INT8"
        ) from error
    newer.ir_version = max(newer.ir_version, _IR_OF_OPSET_19)
    return from_proto(newer)


def _require_no_subgraphs(nodes: Iterable[ir.Node]) -> None:
    for node in nodes:
        if _SUBGRAPHS & {attribute.type for attribute in node.attributes.values()}:
            raise ConversionError(
                f"layer '{node_label(node)}' ({node.op_type}): expected a node without subgraphs, got control flow; "
                "unroll it when exporting"
            )


def _keep_quantized_layers_whole(nodes: Iterable[ir.Node], reasons: dict[ir.Node, FloatReason]) -> None:
    """Extend the FP32 layers by the nodes that TensorRT fuses with them: a quantized layer and its Q/DQ pairs."""
    units = tuple(_quantized_units(nodes))
    size = -1
    while size != len(reasons):  # layers share the Q/DQ pairs of activations
        size = len(reasons)
        for layer, members in units:
            if any(member in reasons for member in members):
                for member in members:
                    reasons.setdefault(member, FusedWithFp32Layer(layer=layer))


def _quantized_units(nodes: Iterable[ir.Node]) -> Iterator[tuple[str, list[ir.Node]]]:
    """Yield label and nodes of every quantized layer: the layer and the Q/DQ pairs of its inputs."""
    for layer in nodes:
        if layer.op_type in _QUANTIZED_OPS:
            producers = [value.producer() for value in layer.inputs[:2] if value is not None]
            dequantizers = [node for node in producers if node is not None and node.op_type == "DequantizeLinear"]
            sources = [operand(node, 0).producer() for node in dequantizers]
            quantizers = [node for node in sources if node is not None and node.op_type == "QuantizeLinear"]
            if dequantizers:
                yield node_label(layer), [layer, *dequantizers, *quantizers]


def _float_constant(value: ir.Value | None) -> NDArray[np.float32] | None:
    return constant_array(value) if value is not None and value.dtype == ir.DataType.FLOAT else None


def _rounding_error(array: NDArray[np.float32], *, by_element: bool) -> float:
    """Return the relative change by rounding to float16: the largest of all elements, or that of the tensor's norm."""
    wide = array.astype(np.float64)
    change = np.abs(wide - array.astype(np.float16))
    if by_element:
        return float(np.max(change / np.where(wide == 0, 1.0, np.abs(wide))))
    norm = float(np.linalg.norm(wide))
    return float(np.linalg.norm(change)) / norm if norm else 0.0


def _count_flushed(node: ir.Node) -> int:
    arrays = [array for value in node.inputs if (array := _float_constant(value)) is not None]
    return sum(int(np.count_nonzero(array) - np.count_nonzero(array.astype(np.float16))) for array in arrays)


def _count_terms(node: ir.Node) -> int | None:
    """Return how many terms an output element adds up at most, None if shapes are unknown."""
    if node.op_type == "AveragePool":
        return math.prod(node.attributes.get_ints("kernel_shape", ()))
    inputs, outputs = static_dims(operand(node, 0)), static_dims(node.outputs[0])
    if inputs is None or outputs is None:
        return None
    if node.op_type in ("Softmax", "LogSoftmax"):
        return inputs[node.attributes.get_int("axis", -1)]
    is_reduction = node.op_type.startswith("Reduce") or node.op_type == "GlobalAveragePool"
    return math.prod(inputs) // math.prod(outputs) if is_reduction else math.prod(inputs)


def _check(model: ir.Model) -> None:
    if fault := find_fault(model):
        raise ConversionError(
            f"the graph cannot be restated in FP16: {fault}; export this model in FP32, or keep the layer named here "
            "in float"
        )
