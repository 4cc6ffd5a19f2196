"""Lowering of nodes in float: attention gates, pooling over axes, and the classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeact.export.cpu.native.ir import BinaryOp, DenseOp, FloatConvOp, FloatTensor, ReduceOp, UnaryOp
from edgeact.export.cpu.native.lowering_state import LoweringState
from edgeact.export.cpu.native.onnx_nodes import bias, dilated, float_weights, pads, triple, ungrouped
from edgeact.export.cpu.native.refusals import UnmetRequirement
from edgeact.export.graph.values import (
    constant_array,
    describe_dims,
    dims_of,
    given_inputs,
    operand,
    optional_operand,
    reduction_axes,
)
from edgeact.runtime.native.program import BinaryOperator, Reduction, Size4, UnaryOperator

__all__ = [
    "FLOAT_LOWERINGS",
    "lower_binary",
    "lower_channel_conv",
    "lower_float_concat",
    "lower_float_conv",
    "lower_unary",
]

_BINARY: Mapping[str, BinaryOperator] = MappingProxyType(
    {"Mul": "mul", "Add": "add", "Sub": "sub", "Div": "div", "Max": "max"}
)
_UNARY: Mapping[str, UnaryOperator] = MappingProxyType(
    {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Sqrt": "sqrt", "Exp": "exp"}
)
_REDUCTIONS: Mapping[str, Reduction] = MappingProxyType(
    {
        "ReduceSum": "sum",
        "ReduceMean": "mean",
        "ReduceMax": "max",
        "GlobalAveragePool": "mean",
        "GlobalMaxPool": "max",
    }
)
_MAX_FLOAT_MACS = 4_000_000


def lower_binary(state: LoweringState, node: ir.Node) -> None:
    """Lower elementwise arithmetic on two tensors."""
    if len(node.inputs) != 2:
        raise UnmetRequirement("two-inputs", str(len(node.inputs)))
    a, b = (state.float_tensor(operand(node, index)) for index in (0, 1))
    to = FloatTensor(state.size(node.outputs[0]))
    state.compute(node.outputs[0], BinaryOp(_BINARY[node.op_type], a, b, to))


def lower_unary(state: LoweringState, node: ir.Node) -> None:
    """Lower an elementwise function."""
    source, to = state.float_tensor(operand(node, 0)), FloatTensor(state.size(node.outputs[0]))
    state.compute(node.outputs[0], UnaryOp(_UNARY[node.op_type], source, to))


def _lower_clip(state: LoweringState, node: ir.Node) -> None:
    """Lower a clip between constants; a bound that is left out does not restrict."""
    bounds = [optional_operand(node, index) for index in (1, 2)]
    values = [None if bound is None else constant_array(bound) for bound in bounds]
    if any(bound is not None and value is None for bound, value in zip(bounds, values, strict=True)):
        raise UnmetRequirement("constant-bounds", "computed bounds")
    low, high = (None if value is None else float(value.item()) for value in values)
    state.floats[node.outputs[0]] = _clip(state, state.float_tensor(operand(node, 0)), low, high)


def _lower_hard_sigmoid(state: LoweringState, node: ir.Node) -> None:
    source = state.float_tensor(operand(node, 0))
    slope, offset = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    state.floats[node.outputs[0]] = _hard_sigmoid(state, source, slope, offset)


def _lower_hard_swish(state: LoweringState, node: ir.Node) -> None:
    source = state.float_tensor(operand(node, 0))
    gate = _hard_sigmoid(state, source, 1 / 6, 0.5)
    state.floats[node.outputs[0]] = _binary(state, "mul", source, gate)


def _hard_sigmoid(state: LoweringState, source: FloatTensor, slope: float, offset: float) -> FloatTensor:
    line = _binary(state, "add", _binary(state, "mul", source, _scalar(slope)), _scalar(offset))
    return _clip(state, line, 0.0, 1.0)


def _clip(state: LoweringState, source: FloatTensor, low: float | None, high: float | None) -> FloatTensor:
    """Restrict a tensor; the minimum of two values is the negated maximum of the negated values."""
    if low is not None:
        source = _binary(state, "max", source, _scalar(low))
    if high is not None:
        negated = _binary(state, "max", _binary(state, "mul", source, _scalar(-1.0)), _scalar(-high))
        source = _binary(state, "mul", negated, _scalar(-1.0))
    return source


def _scalar(value: float) -> FloatTensor:
    return FloatTensor((1, 1, 1, 1), np.array([value], np.float32))


def _binary(state: LoweringState, operator: BinaryOperator, a: FloatTensor, b: FloatTensor) -> FloatTensor:
    """Append an operation on a tensor and one of the same size, or of size 1, and return its result."""
    to = FloatTensor(a.size)
    state.schedule.append(BinaryOp(operator, a, b, to))
    return to


def lower_float_conv(state: LoweringState, node: ir.Node) -> None:
    """Lower a small convolution that is kept in float."""
    source, to = state.float_tensor(operand(node, 0)), FloatTensor(state.size(node.outputs[0]))
    stride = node.attributes.get_ints("strides", (1,))
    if set(stride) != {1} or to.size[:3] != source.size[:3]:
        got = f"strides {list(stride)}, (T, H, W) {source.size[:3]} to {to.size[:3]}"
        raise UnmetRequirement("same-size-float-conv", got)
    by_group = dilated(float_weights(node), node).transpose(0, 2, 3, 4, 1)
    weights = np.ascontiguousarray(ungrouped(by_group, node.attributes.get_int("group", 1)))
    _require_small(int(np.prod(to.size)) * weights[0].size)
    padding = triple(pads(node)[:3])
    state.compute(node.outputs[0], FloatConvOp(source, weights, bias(node, len(weights)), padding, to))


def lower_float_concat(state: LoweringState, node: ir.Node) -> None:
    """Lower a concatenation of single channels: each one times its unit vector, then added up."""
    sources = [state.float_tensor(value) for value in given_inputs(node)]
    channels = [source.size[3] for source in sources]
    if set(channels) != {1}:
        raise UnmetRequirement("single-channel-concat", f"float inputs of {channels} channels")
    unit_vectors = np.eye(len(sources), dtype=np.float32)
    total: FloatTensor | None = None
    for source, vector in zip(sources, unit_vectors, strict=True):
        size: Size4 = (*source.size[:3], len(sources))
        spread = FloatTensor(size)
        state.schedule.append(BinaryOp("mul", source, FloatTensor((1, 1, 1, len(sources)), vector), spread))
        if total is not None:
            partial_sum = FloatTensor(size)
            state.schedule.append(BinaryOp("add", total, spread, partial_sum))
            spread = partial_sum
        total = spread
    assert total is not None
    state.floats[node.outputs[0]] = total


def lower_channel_conv(state: LoweringState, node: ir.Node) -> None:
    """Lower a 1-D convolution over the channels of a vector, as efficient channel attention has, to a band matrix."""
    kernel, source = float_weights(node)[0, 0], state.float_tensor(operand(node, 0))
    channels, pad = source.size[3], node.attributes.get_ints("pads", (0, 0))[0]
    to = FloatTensor(state.size(node.outputs[0]))
    stated = {name: node.attributes.get_ints(name, (1,)) for name in ("strides", "dilations")}
    if source.size[:3] != (1, 1, 1) or to.size != source.size or any(set(value) != {1} for value in stated.values()):
        got = f"{stated}, (T, H, W, C) {source.size} to {to.size}"
        raise UnmetRequirement("same-size-float-conv", got)
    _require_small(channels * channels)
    offsets = np.arange(channels)[None, :] - np.arange(channels)[:, None] + pad  # tap that output o has for input i
    is_tap = (offsets >= 0) & (offsets < len(kernel))
    band = np.where(is_tap, kernel[np.clip(offsets, 0, len(kernel) - 1)], np.float32(0)).astype(np.float32)
    offset = np.full(channels, bias(node, 1)[0], np.float32)
    state.compute(node.outputs[0], DenseOp(source, band, offset, to))


def _lower_reduction(state: LoweringState, node: ir.Node) -> None:
    source = state.float_tensor(operand(node, 0))
    shape = dims_of(operand(node, 0)) or ()
    axes = _reduced_axes(node)
    if len(shape) != 5 or axes is None:
        got = f"shape {shape}" if axes is not None else "axes that are not constant"
        raise UnmetRequirement("reduced-activation", got)
    is_reduced = (2 in axes, 3 in axes, 4 in axes, 1 in axes)
    size = tuple(1 if reduces else extent for reduces, extent in zip(is_reduced, source.size, strict=True))
    to = FloatTensor(state.size(node.outputs[0]))
    if size != to.size:
        raise UnmetRequirement("reduced-shape", f"{describe_dims(node.outputs[0])} over axes {list(axes)}")
    state.compute(node.outputs[0], ReduceOp(_REDUCTIONS[node.op_type], source, is_reduced, to))


def _reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    return (2, 3, 4) if node.op_type.startswith("Global") else reduction_axes(node)


def _lower_gemm(state: LoweringState, node: ir.Node) -> None:
    flags = {name: node.attributes.get_int(name, 0) for name in ("transA", "transB")}
    factors = {name: node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")}
    if flags != {"transA": 0, "transB": 1} or set(factors.values()) != {1.0}:
        stated = ", ".join(f"{name}={value:g}" for name, value in {**flags, **factors}.items())
        raise UnmetRequirement("transposed-gemm", stated)
    weights, to = float_weights(node), FloatTensor(state.size(node.outputs[0]))
    _require_small(weights.size)
    if (source := state.flattened.get(operand(node, 0))) is not None:
        weights = _channels_last_inputs(weights, source.size)
    else:
        source = state.float_tensor(operand(node, 0))
        if source.size[:3] != (1, 1, 1):
            raise UnmetRequirement("vector-input", f"(T, H, W, C) {source.size}")
    state.compute(node.outputs[0], DenseOp(source, weights, bias(node, len(weights)), to))


def _channels_last_inputs(weights: npt.NDArray[np.float32], size: Size4) -> npt.NDArray[np.float32]:
    """Return a matrix over (C, T, H, W) as one over an activation of `size`, (T, H, W, C)."""
    time, height, width, channels = size
    inputs = weights.reshape(len(weights), channels, time, height, width)
    return np.ascontiguousarray(inputs.transpose(0, 2, 3, 4, 1).reshape(len(weights), -1))


def _require_small(macs: int) -> None:
    if macs > _MAX_FLOAT_MACS:
        raise UnmetRequirement("small-float-layer", f"{macs:,}")


FLOAT_LOWERINGS: Mapping[str, Callable[[LoweringState, ir.Node], None]] = MappingProxyType(
    {
        **dict.fromkeys(_BINARY, lower_binary),
        **dict.fromkeys(_UNARY, lower_unary),
        **dict.fromkeys(_REDUCTIONS, _lower_reduction),
        "Clip": _lower_clip,
        "Gemm": _lower_gemm,
        "HardSigmoid": _lower_hard_sigmoid,
        "HardSwish": _lower_hard_swish,
    }
)
"""ONNX operator -> lowering in float. `lower` tries INT8 first for operators that have both."""
