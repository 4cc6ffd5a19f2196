"""Lowering of INT8 ONNX graphs with integer flow to the compiler's intermediate representation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from edgeact.export.cpu.native.float_ops import (
    FLOAT_LOWERINGS,
    lower_binary,
    lower_channel_conv,
    lower_float_concat,
    lower_float_conv,
    lower_unary,
)
from edgeact.export.cpu.native.ir import (
    BinaryOp,
    ChannelSlice,
    ConvOp,
    FloatPoolOp,
    FloatTensor,
    Op,
    PoolOp,
    QuantizedTensor,
    QuantizeOp,
    Slices,
    UnaryOp,
    merge_slices,
    single_channels,
)
from edgeact.export.cpu.native.lowering_state import LoweringState, PendingAdd
from edgeact.export.cpu.native.onnx_nodes import bias, dilated, pads, strides, triple, weight_scale, weights
from edgeact.export.cpu.native.refusals import Layer, NotLoweredError, UnmetRequirement
from edgeact.export.graph.values import (
    constant_array,
    dims_of,
    given_inputs,
    is_constant,
    name_of,
    node_label,
    operand,
    optional_operand,
    static_dims,
)
from edgeact.runtime.native.packing import conv_out_size
from edgeact.runtime.native.program import ZeroPoint

__all__ = ["Lowered", "lower"]

_IDENTITY_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Lowered:
    """A graph as operations in program order, and the tensor that holds the logits."""

    ops: tuple[Op, ...]
    logits: FloatTensor


def lower(model: ir.Model) -> Lowered:
    """Lower an INT8 graph as `edgeact.export.quantize.qdq_placement.place_qdq` makes it.

    Raises NotLoweredError, which names the layer, if the native engine cannot run the graph.
    """
    (clip,), (logits,) = model.graph.inputs, model.graph.outputs
    state = LoweringState(clip)
    for node in model.graph:
        layer = Layer(node_label(node), node.op_type)
        try:
            if node.op_type not in _LOWERINGS:
                raise UnmetRequirement("operator", node.op_type)
            _LOWERINGS[node.op_type](state, node)
        except UnmetRequirement as error:
            raise NotLoweredError(error.layer or layer, error.requirement, error.got) from error
    result = state.float_tensor(logits)
    return Lowered(tuple(state.schedule.ops()), result)


def _whole(tensor: QuantizedTensor) -> Slices:
    return (ChannelSlice(tensor, 0, tensor.channels),)


def _lower_quantize(state: LoweringState, node: ir.Node) -> None:
    source, out = operand(node, 0), node.outputs[0]
    tensor = _quantized_tensor(state, node)
    if source is state.clip:
        state.slices[out] = _whole(tensor)
        state.clip_blocks[out] = (1, 1, 1)
    elif source in state.convs and state.convs[source].quantized is None:
        state.slices[out] = _quantize_conv(state, source, tensor)
    elif source in state.adds and source not in state.floats:
        if _is_nested_add(state, source, out):
            state.adds[out] = state.adds[source]
        else:
            state.fuse_add(source, tensor)
            state.slices[out] = _whole(tensor)
    else:
        state.schedule.append(QuantizeOp(state.float_tensor(source), tensor))
        state.slices[out] = _whole(tensor)


def _quantized_tensor(state: LoweringState, node: ir.Node) -> QuantizedTensor:
    scale, zero_point = (constant_array(optional_operand(node, index)) for index in (1, 2))
    if scale is None or zero_point is None:
        raise UnmetRequirement("per-tensor-scale", "a computed scale or zero point")
    if scale.size != 1 or zero_point.any():
        got = f"{scale.size} scales and zero point {zero_point.reshape(-1)[0]}"
        raise UnmetRequirement("per-tensor-scale", got)
    time, height, width, channels = state.size(operand(node, 0))
    layer = Layer(node_label(node), node.op_type)
    # The engine stores int8 as uint8 with zero point 128.
    engine_zero_point: ZeroPoint = 0 if zero_point.dtype == np.uint8 else 128
    return QuantizedTensor(layer, (time, height, width), channels, float(scale.item()), engine_zero_point)


def _is_nested_add(state: LoweringState, add: ir.Value, quantized: ir.Value) -> bool:
    """Return whether an addition is quantized only to be an input of another one, which then adds it unquantized."""
    dequantize = state.only_reader(quantized)
    reader = state.only_reader(dequantize.outputs[0]) if dequantize is not None else None
    return reader is not None and reader.op_type == "Add" and not state.adds[add].relu


def _lower_dequantize(state: LoweringState, node: ir.Node) -> None:
    source, out = operand(node, 0), node.outputs[0]
    if source in state.slices:
        state.slices[out] = state.slices[source]
        if source in state.clip_blocks:
            state.clip_blocks[out] = state.clip_blocks[source]
    elif source in state.adds:
        state.adds[out] = state.adds[source]
    elif not is_constant(source):
        raise UnmetRequirement("quantized-input", f"'{name_of(source)}', which nothing quantizes")


def _quantize_conv(state: LoweringState, output: ir.Value, tensor: QuantizedTensor) -> Slices:
    """Let a convolution store its outputs quantized. Outputs of identity filters become slices of its input instead."""
    conv = state.convs[output]
    is_shared = state.only_reader(output) is None or conv.unquantized is not None
    carried = {} if is_shared else _identity_filters(conv, tensor)
    computed = [channel for channel in range(tensor.channels) if channel not in carried]
    if carried:
        conv.weights, conv.scale, conv.bias = conv.weights[computed], conv.scale[computed], conv.bias[computed]
    stored = QuantizedTensor(tensor.layer, tensor.size, len(computed), tensor.scale, tensor.zero_point)
    state.schedule.set_quantized(conv, stored)
    inputs = single_channels(conv.inputs)
    sources = dict(zip(computed, single_channels(_whole(stored)), strict=True))
    sources |= {channel: inputs[source] for channel, source in carried.items()}
    return merge_slices([sources[channel] for channel in range(tensor.channels)])


def _identity_filters(conv: ConvOp, to: QuantizedTensor) -> dict[int, int]:
    """Return output channel -> input channel for filters with a single weight of 1.0 at the center.

    Empty if quantization would change the values, if no output would remain, or if the convolution has groups.
    """
    source = conv.inputs[0].tensor
    same_grid = source.size == conv.out_size and set(conv.stride) == {1}
    same_encoding = (source.scale, source.zero_point) == (to.scale, to.zero_point)
    keeps_sign = (conv.relu or to.zero_point) and not (conv.relu and source.zero_point)
    if conv.groups > 1 or not (same_grid and same_encoding and keeps_sign):
        return {}
    center = conv.weights[:, conv.padding[0], conv.padding[1], conv.padding[2]]
    carried = {}
    for channel, taps in enumerate(conv.weights):
        inputs = np.flatnonzero(center[channel])
        if len(inputs) == 1 and np.count_nonzero(taps) == 1 and conv.bias[channel] == 0:
            weight = center[channel, inputs[0]] * conv.scale[channel] / source.scale
            if abs(weight - 1) < _IDENTITY_TOLERANCE:
                carried[channel] = int(inputs[0])
    return carried if len(carried) < len(conv.weights) else {}


def _lower_conv(state: LoweringState, node: ir.Node) -> None:
    values = weights(node)
    if values.shape[:2] == (1, 1) and values.ndim == 3:
        lower_channel_conv(state, node)
        return
    _require_supported_conv(node, values.ndim)
    values = dilated(values, node)
    slices = state.read_slices(operand(node, 0))
    if slices is None or values.dtype != np.int8:
        lower_float_conv(state, node)
        return
    source, outputs = slices[0].tensor, len(values)
    conv = ConvOp(
        layer=Layer(node_label(node), node.op_type),
        inputs=merge_slices(slices),
        weights=np.ascontiguousarray(values.transpose(0, 2, 3, 4, 1).astype(np.int8, copy=False)),
        scale=(weight_scale(node, outputs) * source.scale).astype(np.float32),
        bias=bias(node, outputs),
        stride=strides(node),
        padding=triple(pads(node)[:3]),
        out_size=conv_out_size(source.size, triple(values.shape[2:]), strides(node), pads(node)),
        groups=node.attributes.get_int("group", 1),
    )
    state.schedule.append(conv)
    state.convs[node.outputs[0]] = conv


def _require_supported_conv(node: ir.Node, weight_rank: int) -> None:
    auto_pad = node.attributes.get_string("auto_pad", "NOTSET")
    if weight_rank != 5 or auto_pad != "NOTSET":
        raise UnmetRequirement("conv-3d", f"{weight_rank - 2}-D weights, auto_pad={auto_pad}")


def _lower_pool(state: LoweringState, node: ir.Node) -> None:
    dilations, outputs = node.attributes.get_ints("dilations", (1,)), len(node.outputs)
    if set(dilations) != {1} or outputs > 1:
        raise UnmetRequirement("plain-pool", f"dilations={list(dilations)}, outputs={outputs}")
    slices = state.read_slices(operand(node, 0))
    if slices is None:
        raise UnmetRequirement("int8-pool", "a float input")
    source, channels = slices[0].tensor, sum(part.count for part in slices)
    size = state.size(node.outputs[0])[:3]
    layer = Layer(node_label(node), node.op_type)
    to = QuantizedTensor(layer, size, channels, source.scale, source.zero_point)
    kernel = triple(node.attributes.get_ints("kernel_shape", ()))
    state.schedule.append(PoolOp(slices, to, kernel, strides(node), triple(pads(node)[:3])))
    state.slices[node.outputs[0]] = _whole(to)


def _lower_average_pool(state: LoweringState, node: ir.Node) -> None:
    """Lower the mean of each window, of INT8 as a depthwise convolution of weights 1, which is computed exactly."""
    _require_plain_average(node)
    kernel = triple(node.attributes.get_ints("kernel_shape", ()))
    size, out_size = state.size(operand(node, 0)), state.size(node.outputs[0])
    if conv_out_size(size[:3], kernel, strides(node), pads(node)) != out_size[:3]:
        raise UnmetRequirement("plain-average", "a last window that begins in the padding (ceil_mode)")
    padding = triple(pads(node)[:3])
    counts_padding = node.attributes.get_int("count_include_pad", 0) or not any(pads(node))
    slices = state.read_slices(operand(node, 0)) if counts_padding else None
    if slices is None:
        source = state.float_tensor(operand(node, 0))
        pool = FloatPoolOp(source, kernel, strides(node), padding, FloatTensor(out_size))
        state.compute(node.outputs[0], pool)
        if not counts_padding:
            state.compute(node.outputs[0], _without_padding(pool))
        return
    conv = ConvOp(
        layer=Layer(node_label(node), node.op_type),
        inputs=merge_slices(slices),
        weights=np.ones((size[3], *kernel, 1), np.int8),
        scale=np.full(size[3], slices[0].tensor.scale / math.prod(kernel), np.float32),
        bias=np.zeros(size[3], np.float32),
        stride=strides(node),
        padding=padding,
        out_size=out_size[:3],
        groups=size[3],
    )
    state.schedule.append(conv)
    state.convs[node.outputs[0]] = conv


def _without_padding(pool: FloatPoolOp) -> BinaryOp:
    """Return the operation that turns the pool's means over whole windows into means over the activation's values."""
    counts = [
        [max(min(start + kernel, size), 0) - max(start, 0) for start in range(-padding, out * stride - padding, stride)]
        for size, out, kernel, stride, padding in zip(
            pool.source.size, pool.to.size, pool.kernel, pool.stride, pool.padding, strict=False
        )
    ]
    inside = np.einsum("t,h,w->thw", *map(np.array, counts))[..., None]
    factors = (math.prod(pool.kernel) / inside).astype(np.float32)
    constant = FloatTensor((*pool.to.size[:3], 1), factors)
    return BinaryOp("mul", pool.to, constant, FloatTensor(pool.to.size))


def _require_plain_average(node: ir.Node) -> None:
    dilations, auto_pad = node.attributes.get_ints("dilations", (1,)), node.attributes.get_string("auto_pad", "NOTSET")
    if set(dilations) != {1} or auto_pad != "NOTSET":
        raise UnmetRequirement("plain-average", f"dilations={list(dilations)}, auto_pad={auto_pad}")


def _lower_split(state: LoweringState, node: ir.Node) -> None:
    axis = node.attributes.get_int("axis", 0)
    slices = state.read_slices(operand(node, 0))
    if slices is None or axis != 1:
        got = f"axis {axis}" if axis != 1 else "a float input"
        raise UnmetRequirement("int8-channel-split", got)
    channels, first = single_channels(slices), 0
    for part in node.outputs:
        last = first + state.size(part)[3]
        state.slices[part] = merge_slices(channels[first:last])
        first = last


def _lower_concat(state: LoweringState, node: ir.Node) -> None:
    axis = node.attributes.get_int("axis", 0)
    if axis != 1:
        raise UnmetRequirement("channel-concat", f"axis {axis}")
    if not all(value in state.slices for value in given_inputs(node)):
        lower_float_concat(state, node)
        return
    inputs = [state.read_slices(value) or () for value in given_inputs(node)]
    state.slices[node.outputs[0]] = merge_slices([part for slices in inputs for part in slices])


def _lower_reshape(state: LoweringState, node: ir.Node) -> None:
    if operand(node, 0) in state.clip_blocks:
        _reshape_clip(state, node)
        return
    source, size = state.float_tensor(operand(node, 0)), state.size(node.outputs[0])
    if source.size == size:
        state.floats[node.outputs[0]] = source
    elif sorted(source.size) == sorted(size) and max(math.prod(size), 1) == max(size):
        to = FloatTensor(size)  # values along a single axis have the same order along any other
        state.compute(node.outputs[0], UnaryOp("copy", source, to))
    elif size == (1, 1, 1, math.prod(source.size)):
        state.flattened[node.outputs[0]] = source
    else:
        raise UnmetRequirement("same-order", f"(T, H, W, C) {source.size} to {size}")


def _reshape_clip(state: LoweringState, node: ir.Node) -> None:
    """Follow the clip through the reshapes around a space-to-depth Transpose."""
    source, out = operand(node, 0), node.outputs[0]
    state.clip_blocks[out], state.slices[out] = state.clip_blocks[source], state.slices[source]
    dims = dims_of(out)
    if dims is not None and len(dims) == 5 and dims != dims_of(state.clip):
        clip = state.slices[source][0].tensor
        layer = Layer(node_label(node), node.op_type)
        time, height, width, channels = state.size(out)
        tensor = QuantizedTensor(layer, (time, height, width), channels, clip.scale, clip.zero_point)
        state.slices[out] = _whole(tensor)


def _lower_transpose(state: LoweringState, node: ir.Node) -> None:
    """Lower space-to-depth of the clip: (1, C, T, H / b, b, W / b, b) to (1, C, b, b, T, H / b, W / b)."""
    source, out = operand(node, 0), node.outputs[0]
    permutation, dims = list(node.attributes.get_ints("perm", ())), static_dims(source)
    if source not in state.clip_blocks or permutation != [0, 1, 4, 6, 2, 3, 5] or dims is None:
        subject = "the clip" if source in state.clip_blocks else f"'{name_of(source)}'"
        raise UnmetRequirement("space-to-depth", f"perm {permutation} of {subject}")
    state.clip_blocks[out] = (1, dims[4], dims[6])
    state.slices[out] = state.slices[source]


def _lower_add(state: LoweringState, node: ir.Node) -> None:
    inputs = tuple(given_inputs(node))
    shapes = {dims_of(value) or () for value in inputs}
    is_residual = len(shapes) == 1 and len(next(iter(shapes))) == 5
    if is_residual and state.can_fuse_sum(inputs):
        state.adds[node.outputs[0]] = PendingAdd(inputs, Layer(node_label(node), node.op_type))
    else:
        lower_binary(state, node)


def _lower_relu(state: LoweringState, node: ir.Node) -> None:
    source, out = operand(node, 0), node.outputs[0]
    is_only_reader = state.only_reader(source) is not None
    if source in state.convs and is_only_reader and state.convs[source].quantized is None:
        conv = state.convs[out] = state.convs.pop(source)
        conv.relu = True
    elif source in state.adds and is_only_reader and source not in state.floats:
        state.adds[out] = replace(state.adds[source], relu=True)
    else:
        lower_unary(state, node)


def _lower_constant(_state: LoweringState, _node: ir.Node) -> None:
    """Do nothing: readers look the value up in the graph."""


_RESHAPES = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout")
_LOWERINGS: Mapping[str, Callable[[LoweringState, ir.Node], None]] = MappingProxyType(
    {
        **FLOAT_LOWERINGS,
        **dict.fromkeys(_RESHAPES, _lower_reshape),
        "QuantizeLinear": _lower_quantize,
        "DequantizeLinear": _lower_dequantize,
        "Conv": _lower_conv,
        "MaxPool": _lower_pool,
        "AveragePool": _lower_average_pool,
        "Split": _lower_split,
        "Concat": _lower_concat,
        "Add": _lower_add,
        "Relu": _lower_relu,
        "Transpose": _lower_transpose,
        "Constant": _lower_constant,
    }
)
