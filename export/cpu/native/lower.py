"""Reading an INT8 graph with integer flow as operations over pieces: splits, joins and roundings are no operations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import NodeProto

from edgeact.errors import ConversionError
from edgeact.export.cpu.native.float_ops import ARITHMETIC, binary, float_convolution, joined_channels, unary
from edgeact.export.cpu.native.ir import Array, ConvOp, InputOp, Op, Piece, PoolOp, RoundOp, Value, joined, singles
from edgeact.export.cpu.native.lowering_state import Pieces, State
from edgeact.export.cpu.native.onnx_nodes import bias_of, three, weight_scale, weights_of
from edgeact.export.graph.view import attribute, node_label, view
from edgeact.runtime.native.packing import out_size

__all__ = ["scan"]


def scan(model: onnx.ModelProto) -> tuple[list[Op], Array]:
    """The operations of `model` in an order in which they can run, and the logits.

    Raises ConversionError, naming the layer, for what the native engine has no operation for.
    """
    state = State(view(model))
    for node in state.graph.nodes:
        try:
            if node.op_type not in _TAKERS:
                raise ConversionError(f"the native engine has no {node.op_type}")
            _TAKERS[node.op_type](state, node)
        except ConversionError as error:
            raise ConversionError(f"layer '{node_label(node)}': {error}") from error
    return state.ops, state.array(model.graph.output[0].name)


def _quantize(state: State, node: NodeProto) -> None:
    name, out = node.input[0], node.output[0]
    value = _value(state, node)
    if name == state.clip:
        state.pieces[out] = (Piece(value, 0, value.channels),)
        state.blocks[out] = (1, 1, 1)
    elif name in state.raw and state.raw[name].value is None:
        state.pieces[out] = _rounded(state, name, value)
    elif name in state.sums and name not in state.arrays:
        if not _is_inner(state, name, out):
            state.add_up(name, value)
            state.pieces[out] = (Piece(value, 0, value.channels),)
        else:
            state.sums[out] = state.sums[name]
    else:
        state.ops.append(RoundOp(state.array(name), value))
        state.pieces[out] = (Piece(value, 0, value.channels),)


def _value(state: State, node: NodeProto) -> Value:
    scale, zero = state.graph.constant(node.input[1]), state.graph.constant(node.input[2])
    if scale is None or scale.size != 1 or zero is None or zero.any():
        raise ConversionError("it needs one step for all channels and a zero point of 0")
    *size, channels = state.shape(node.input[0])
    kind = 0 if zero.dtype == np.uint8 else 128
    return Value(node.input[0], (size[0], size[1], size[2]), channels, float(scale.item()), kind)


def _is_inner(state: State, name: str, rounded: str) -> bool:
    """Whether a sum is rounded only to be added to something else: it is added unrounded instead."""
    restored = state.only_reader(rounded)
    reader = state.only_reader(restored.output[0]) if restored is not None else None
    return reader is not None and reader.op_type == "Add" and not state.sums[name][1]


def _dequantize(state: State, node: NodeProto) -> None:
    name, out = node.input[0], node.output[0]
    if name in state.pieces:
        state.pieces[out] = state.pieces[name]
        if name in state.blocks:
            state.blocks[out] = state.blocks[name]
    elif name in state.sums:
        state.sums[out] = state.sums[name]
    elif state.graph.constant(name) is None:
        raise ConversionError("it reads what nothing has rounded")


def _rounded(state: State, name: str, value: Value) -> Pieces:
    """All outputs, rounded; those that an identity only hands on, to nobody else, are the pieces that it reads."""
    op = state.raw[name]
    carried = _carried(op, value) if state.only_reader(name) is not None and op.array is None else {}
    kept = np.array([channel for channel in range(value.channels) if channel not in carried])
    if carried:
        op.weights, op.scale, op.bias = op.weights[kept], op.scale[kept], op.bias[kept]
    op.value = Value(value.name, value.size, len(kept), value.step, value.zero)
    places = {channel: index for index, channel in enumerate(kept.tolist())}
    read, made = singles(op.inputs), singles([Piece(op.value, 0, len(kept))])
    channels = range(value.channels)
    return joined([read[carried[one]] if one in carried else made[places[one]] for one in channels])


def _convolution(state: State, node: NodeProto) -> None:
    weights = weights_of(state.graph, node)
    if attribute(node, "group", 1) != 1 or set(attribute(node, "dilations", [1])) != {1}:
        raise ConversionError("it has no grouped or dilated convolution")
    if weights.ndim != 5 or attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", "NOTSET"):
        raise ConversionError("it has 3-D convolutions with stated padding only")
    pieces = state.pieces.get(node.input[0])
    if pieces is None or weights.dtype != np.int8:
        float_convolution(state, node)
        return
    if node.input[0] in state.blocks:
        _input(state, node.input[0], pieces[0].value)
    stride, pads = three(attribute(node, "strides", [1, 1, 1])), tuple(attribute(node, "pads", [0] * 6))
    op = ConvOp(
        name=node_label(node),
        inputs=joined(pieces),
        weights=np.ascontiguousarray(weights.transpose(0, 2, 3, 4, 1)),
        scale=(weight_scale(state.graph, node, len(weights)) * pieces[0].value.step).astype(np.float32),
        bias=bias_of(state.graph, node, len(weights)),
        stride=stride,
        pad=three(pads[:3]),
        out=out_size(pieces[0].value.size, three(weights.shape[2:]), stride, pads),
        relu=False,
    )
    state.ops.append(op)
    state.raw[node.output[0]] = op


def _input(state: State, name: str, value: Value) -> None:
    block = state.blocks.pop(name)
    if any(isinstance(op, InputOp) for op in state.ops):
        raise ConversionError("the native engine reads the clip once")
    _, channels, *size = state.graph.shapes[state.clip]
    state.ops.append(InputOp(value, int(channels or 0), three(size), block))


def _pool(state: State, node: NodeProto) -> None:
    pieces = state.pieces.get(node.input[0])
    if pieces is None or set(attribute(node, "dilations", [1])) != {1} or len(node.output) > 1:
        raise ConversionError("it pools features in INT8 only, without dilation")
    first = pieces[0].value
    channels = sum(piece.count for piece in pieces)
    to = Value(node.output[0], state.shape(node.output[0])[:3], channels, first.step, first.zero)
    kernel, stride = three(attribute(node, "kernel_shape", [])), three(attribute(node, "strides", [1, 1, 1]))
    state.ops.append(PoolOp(pieces, to, kernel, stride, three(attribute(node, "pads", [0] * 6)[:3])))
    state.pieces[node.output[0]] = (Piece(to, 0, channels),)


def _split(state: State, node: NodeProto) -> None:
    pieces = state.pieces.get(node.input[0])
    if pieces is None or attribute(node, "axis", 0) != 1:
        raise ConversionError("it splits channels of features in INT8 only")
    channels, first = singles(pieces), 0
    for name in node.output:
        last = first + state.shape(name)[3]
        state.pieces[name] = joined(channels[first:last])
        first = last


def _concat(state: State, node: NodeProto) -> None:
    if attribute(node, "axis", 0) != 1:
        raise ConversionError("it joins channels only")
    if all(name in state.pieces for name in node.input):
        state.pieces[node.output[0]] = joined([piece for name in node.input for piece in state.pieces[name]])
    else:
        joined_channels(state, node)


def _same(state: State, node: NodeProto) -> None:
    name, out = node.input[0], node.output[0]
    if name in state.blocks:
        state.blocks[out], state.pieces[out] = state.blocks[name], state.pieces[name]
        shape = state.graph.shapes[out]
        if len(shape) == 5 and shape != state.graph.shapes[state.clip]:
            (piece,) = state.pieces[name]
            value = Value(out, state.shape(out)[:3], int(shape[1] or 0), piece.value.step, piece.value.zero)
            state.pieces[out] = (Piece(value, 0, value.channels),)
        return
    source, size = state.array(name), state.shape(out)
    if source.size != size:
        raise ConversionError("it keeps the order of values only where vectors stay vectors")
    state.arrays[out] = source


def _transpose(state: State, node: NodeProto) -> None:
    """Space to depth, the only one: (1, C, T, H / b, b, W / b, b) to (1, C, b, b, T, H / b, W / b)."""
    name, out = node.input[0], node.output[0]
    shape = state.graph.shapes[name]
    if name not in state.blocks or list(attribute(node, "perm", [])) != [0, 1, 4, 6, 2, 3, 5]:
        raise ConversionError("it turns nothing but the clip, from space to depth")
    state.blocks[out] = (1, int(shape[4] or 0), int(shape[6] or 0))
    state.pieces[out] = state.pieces[name]


def _add(state: State, node: NodeProto) -> None:
    names = list(node.input)
    alike = len({state.graph.shapes[name] for name in names}) == 1 and len(state.graph.shapes[names[0]]) == 5
    if alike and all(state.can_add_up(name) for name in names):
        state.sums[node.output[0]] = (names, False)
    else:
        binary(state, node)


def _relu(state: State, node: NodeProto) -> None:
    name, out = node.input[0], node.output[0]
    only = state.only_reader(name) is not None
    if name in state.raw and only and state.raw[name].value is None:
        state.raw[out] = state.raw.pop(name)
        state.raw[out].relu = True
    elif name in state.sums and only and name not in state.arrays:
        state.sums[out] = (state.sums[name][0], True)
    else:
        unary(state, node)


def _carried(op: ConvOp, value: Value) -> dict[int, int]:
    """Output channel -> input channel that it hands on unchanged: one weight, at the centre, that comes to 1."""
    first = op.inputs[0].value
    same_grid = first.size == op.out and set(op.stride) == {1} and first.step == value.step and first.zero == value.zero
    if not same_grid or not (op.relu or value.zero) or (op.relu and first.zero):
        return {}
    centre = op.weights[:, op.pad[0], op.pad[1], op.pad[2]]
    found = {}
    for channel, taps in enumerate(op.weights):
        where = np.flatnonzero(centre[channel])
        if len(where) == 1 and np.count_nonzero(taps) == 1 and op.bias[channel] == 0:
            unit = centre[channel, where[0]] * op.scale[channel] / first.step
            if abs(unit - 1) < 1e-4:
                found[channel] = int(where[0])
    return found if len(found) < len(op.weights) else {}


_SAME = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout")
_TAKERS: dict[str, Callable[[State, NodeProto], None]] = ARITHMETIC | {
    **dict.fromkeys(_SAME, _same),
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Conv": _convolution,
    "MaxPool": _pool,
    "Split": _split,
    "Concat": _concat,
    "Add": _add,
    "Relu": _relu,
    "Transpose": _transpose,
    "Constant": lambda _state, _node: None,
}
