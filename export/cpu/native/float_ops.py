"""Lowering of nodes in float: attention gates, pooling over axes, and the classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from onnx import NodeProto

from edgeact.export.cpu.native.ir import BinaryOp, DenseOp, FloatConvOp, FloatTensor, ReduceOp, UnaryOp
from edgeact.export.cpu.native.lowering_state import LoweringState
from edgeact.export.cpu.native.onnx_nodes import bias, float_weights, pads, triple
from edgeact.export.cpu.native.refusals import UnmetRequirement
from edgeact.export.graph.view import attribute
from edgeact.runtime.native.program import BinaryOperator, Reduction, Size4, UnaryOperator

__all__ = ["FLOAT_LOWERINGS", "lower_binary", "lower_float_concat", "lower_float_conv", "lower_unary"]

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


def lower_binary(state: LoweringState, node: NodeProto) -> None:
    """Lower elementwise arithmetic on two tensors."""
    if len(node.input) != 2:
        raise UnmetRequirement("two-inputs", str(len(node.input)))
    a, b = (state.float_tensor(name) for name in node.input)
    to = FloatTensor(state.size(node.output[0]))
    state.compute(node.output[0], BinaryOp(_BINARY[node.op_type], a, b, to))


def lower_unary(state: LoweringState, node: NodeProto) -> None:
    """Lower an elementwise function."""
    source, to = state.float_tensor(node.input[0]), FloatTensor(state.size(node.output[0]))
    state.compute(node.output[0], UnaryOp(_UNARY[node.op_type], source, to))


def lower_float_conv(state: LoweringState, node: NodeProto) -> None:
    """Lower a small convolution that is kept in float."""
    source, to = state.float_tensor(node.input[0]), FloatTensor(state.size(node.output[0]))
    stride = attribute(node, "strides", [1])
    if set(stride) != {1} or to.size[:3] != source.size[:3]:
        got = f"strides {list(stride)}, (T, H, W) {source.size[:3]} to {to.size[:3]}"
        raise UnmetRequirement("same-size-float-conv", got)
    weights = np.ascontiguousarray(float_weights(state.graph, node).transpose(0, 2, 3, 4, 1))
    _require_small(int(np.prod(to.size)) * weights[0].size)
    padding = triple(pads(node)[:3])
    state.compute(node.output[0], FloatConvOp(source, weights, bias(state.graph, node, len(weights)), padding, to))


def lower_float_concat(state: LoweringState, node: NodeProto) -> None:
    """Lower a concatenation of single channels: each one times its unit vector, then added up."""
    sources = [state.float_tensor(name) for name in node.input]
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
    state.floats[node.output[0]] = total


def _lower_reduction(state: LoweringState, node: NodeProto) -> None:
    source = state.float_tensor(node.input[0])
    shape = state.graph.shapes[node.input[0]]
    axes = _reduced_axes(state, node)
    if len(shape) != 5 or axes is None:
        got = f"shape {shape}" if axes is not None else "axes that are not constant"
        raise UnmetRequirement("reduced-activation", got)
    reduced = {axis % len(shape) for axis in axes}
    is_reduced = (2 in reduced, 3 in reduced, 4 in reduced, 1 in reduced)
    size = tuple(1 if reduces else extent for reduces, extent in zip(is_reduced, source.size, strict=True))
    to = FloatTensor(state.size(node.output[0]))
    if size != to.size:
        raise UnmetRequirement("reduced-shape", f"{state.graph.shapes[node.output[0]]} over axes {axes}")
    state.compute(node.output[0], ReduceOp(_REDUCTIONS[node.op_type], source, is_reduced, to))


def _reduced_axes(state: LoweringState, node: NodeProto) -> list[int] | None:
    if node.op_type.startswith("Global"):
        return [2, 3, 4]
    if len(node.input) > 1 and (constant := state.graph.constant(node.input[1])) is not None:
        return [int(axis) for axis in constant]
    axes = attribute(node, "axes", None)
    return None if axes is None else list(axes)


def _lower_gemm(state: LoweringState, node: NodeProto) -> None:
    got = {name: attribute(node, name, default) for name, default in _GEMM_DEFAULTS.items()}
    if got != {"transA": 0, "transB": 1, "alpha": 1.0, "beta": 1.0}:
        stated = ", ".join(f"{name}={value:g}" for name, value in got.items())
        raise UnmetRequirement("transposed-gemm", stated)
    weights = float_weights(state.graph, node)
    _require_small(weights.size)
    source, to = state.float_tensor(node.input[0]), FloatTensor(state.size(node.output[0]))
    if source.size[:3] != (1, 1, 1):
        raise UnmetRequirement("vector-input", f"(T, H, W, C) {source.size}")
    state.compute(node.output[0], DenseOp(source, weights, bias(state.graph, node, len(weights)), to))


_GEMM_DEFAULTS = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0}


def _require_small(macs: int) -> None:
    if macs > _MAX_FLOAT_MACS:
        raise UnmetRequirement("small-float-layer", f"{macs:,}")


FLOAT_LOWERINGS: Mapping[str, Callable[[LoweringState, NodeProto], None]] = MappingProxyType(
    {
        **dict.fromkeys(_BINARY, lower_binary),
        **dict.fromkeys(_UNARY, lower_unary),
        **dict.fromkeys(_REDUCTIONS, _lower_reduction),
        "Gemm": _lower_gemm,
    }
)
"""ONNX operator -> lowering in float. `lower` tries INT8 first for operators that have both."""
