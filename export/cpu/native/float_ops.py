"""Nodes that an INT8 graph leaves in float: gates, means, and the classifier."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from edgeact.errors import ConversionError
from edgeact.export.cpu.native.ir import Array, ArrayOp, FloatPart
from edgeact.export.cpu.native.lowering_state import State
from edgeact.export.cpu.native.onnx_nodes import bias_of, real_weights, three
from edgeact.export.graph.view import attribute
from edgeact.runtime.native.program import Size4

__all__ = ["ARITHMETIC", "binary", "float_convolution", "joined_channels", "unary"]

_BINARY = {"Mul": "mul", "Add": "add", "Sub": "sub", "Div": "div", "Max": "max"}
_UNARY = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Sqrt": "sqrt", "Exp": "exp"}
_REDUCE = {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceMax": "max",
    "GlobalAveragePool": "mean",
    "GlobalMaxPool": "max",
}
_LARGEST = 4_000_000  # multiply-accumulates; a float layer of more belongs to another backend


def binary(state: State, node: NodeProto) -> None:
    """Two arrays, value by value."""
    if len(node.input) != 2:
        raise ConversionError(f"it has {node.op_type} of two only")
    first, second = (state.array(name) for name in node.input)
    to = Array(state.shape(node.output[0]))
    state.compute(node.output[0], ArrayOp("binary", _BINARY[node.op_type], (first, second), to))


def unary(state: State, node: NodeProto) -> None:
    """Every value of an array by itself."""
    source, to = state.array(node.input[0]), Array(state.shape(node.output[0]))
    state.compute(node.output[0], ArrayOp("unary", _UNARY[node.op_type], (source,), to))


def _reduce(state: State, node: NodeProto) -> None:
    source = state.array(node.input[0])
    rank = len(state.graph.shapes[node.input[0]])
    axes = attribute(node, "axes", None)
    if len(node.input) > 1 and (constant := state.graph.constant(node.input[1])) is not None:
        axes = constant.tolist()
    if node.op_type.startswith("Global"):
        axes = [2, 3, 4]
    if rank != 5 or axes is None:
        raise ConversionError("it reduces features over stated axes only")
    reduced = {axis % rank for axis in axes}
    over = (2 in reduced, 3 in reduced, 4 in reduced, 1 in reduced)
    made = tuple(1 if one else size for one, size in zip(over, source.size, strict=True))
    if made != state.shape(node.output[0]):
        raise ConversionError("what it leaves is neither features nor a vector")
    to = Array(state.shape(node.output[0]))
    state.compute(node.output[0], ArrayOp("reduce", _REDUCE[node.op_type], (source,), to, over=over))


def _gemm(state: State, node: NodeProto) -> None:
    plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
    if not plain or not attribute(node, "transB", 0) or attribute(node, "transA", 0):
        raise ConversionError("it has only Gemm with transposed weights")
    weights = real_weights(state.graph, node)
    if weights.size > _LARGEST:
        raise ConversionError("it is computed in float and too large for that")
    source, to = state.array(node.input[0]), Array(state.shape(node.output[0]))
    if source.size[:3] != (1, 1, 1):
        raise ConversionError("it classifies vectors only")
    part = FloatPart(weights, bias_of(state.graph, node, len(weights)))
    state.compute(node.output[0], ArrayOp("dense", "", (source,), to, part=part))


def float_convolution(state: State, node: NodeProto) -> None:
    """A convolution outside INT8, which has to be small and to keep the size."""
    source, to = state.array(node.input[0]), Array(state.shape(node.output[0]))
    if set(attribute(node, "strides", [1])) != {1} or to.size[:3] != source.size[:3]:
        raise ConversionError("in float it has only convolutions that keep the size")
    weights = np.ascontiguousarray(real_weights(state.graph, node).transpose(0, 2, 3, 4, 1))
    if np.prod(to.size) * weights[0].size > _LARGEST:
        raise ConversionError("it is left in float and too large for that")
    part = FloatPart(weights, bias_of(state.graph, node, len(weights)), three(attribute(node, "pads", [0] * 6)[:3]))
    state.compute(node.output[0], ArrayOp("small-conv", "", (source,), to, part=part))


def joined_channels(state: State, node: NodeProto) -> None:
    """Single channels in float side by side: each times its own unit vector, then added up."""
    arrays = [state.array(name) for name in node.input]
    if any(array.size[3] != 1 for array in arrays):
        raise ConversionError("in float it joins single channels only")
    total: Array | None = None
    for index, array in enumerate(arrays):
        size: Size4 = (*array.size[:3], len(arrays))
        unit = Array((1, 1, 1, len(arrays)), np.eye(len(arrays), dtype=np.float32)[index])
        spread = Array(size)
        state.ops.append(ArrayOp("binary", "mul", (array, unit), spread))
        if total is not None:
            joint = Array(size)
            state.ops.append(ArrayOp("binary", "add", (total, spread), joint))
            spread = joint
        total = spread
    assert total is not None
    state.arrays[node.output[0]] = total


ARITHMETIC: dict[str, Callable[[State, NodeProto], None]] = {
    **dict.fromkeys(_BINARY, binary),
    **dict.fromkeys(_UNARY, unary),
    **dict.fromkeys(_REDUCE, _reduce),
    "Gemm": _gemm,
}
"""By operator; those that can also be INT8 are asked for that first."""
