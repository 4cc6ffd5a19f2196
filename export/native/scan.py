"""Reading an INT8 graph with integer flow as operations over pieces: splits, joins and roundings are no operations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto

from edgeact.errors import ConversionError
from edgeact.export.convert.graph_view import GraphView, attribute, node_label, view
from edgeact.export.native.flow import (
    Array,
    ArrayOp,
    ConvOp,
    FloatPart,
    InputOp,
    Op,
    Piece,
    PoolOp,
    RestoreOp,
    RoundOp,
    Sum,
    Value,
    joined,
)
from edgeact.runtime.native.packing import out_size
from edgeact.runtime.native.program import Size3, Size4

__all__ = ["scan"]

_BINARY = {"Mul": "mul", "Add": "add", "Sub": "sub", "Div": "div", "Max": "max"}
_UNARY = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Sqrt": "sqrt", "Exp": "exp"}
_REDUCE = {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceMax": "max",
    "GlobalAveragePool": "mean",
    "GlobalMaxPool": "max",
}
_SAME = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout")
_LARGEST_FLOAT = 4_000_000  # multiply-accumulates; a float layer of more belongs to another backend

Pieces = tuple[Piece, ...]


def scan(model: onnx.ModelProto) -> tuple[list[Op], Array]:
    """The operations of `model` in an order in which they can run, and the logits.

    Raises ConversionError, naming the layer, for what the native engine has no operation for.
    """
    graph = view(model)
    scanned = _Scan(graph)
    for node in graph.nodes:
        scanned.take(node)
    return scanned.ops, scanned.array(model.graph.output[0].name)


class _Scan:
    def __init__(self, graph: GraphView) -> None:
        self.graph = graph
        self.ops: list[Op] = []
        self._readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in graph.nodes:
            for name in set(node.input):
                self._readers[name].append(node)
        self._results = {value.name for value in graph.model.graph.output}
        self._pieces: dict[str, Pieces] = {}
        self._arrays: dict[str, Array] = {}
        self._raw: dict[str, ConvOp] = {}
        """Outputs of convolutions that nothing has rounded yet, with their ReLU."""
        self._sums: dict[str, tuple[list[str], bool]] = {}
        """Sums that nothing has computed yet: what is added, and whether a ReLU follows."""
        self._blocks: dict[str, Size3] = {}
        """The rounded clip, turned into blocks."""
        self._takers: dict[str, Callable[[NodeProto], None]] = {
            "QuantizeLinear": self._quantize,
            "DequantizeLinear": self._dequantize,
            "Conv": self._convolution,
            "Gemm": self._gemm,
            "MaxPool": self._pool,
            "Split": self._split,
            "Concat": self._concat,
            "Add": self._add,
            "Relu": self._relu,
            "Transpose": self._transpose,
            "Constant": lambda _node: None,
        }

    def take(self, node: NodeProto) -> None:
        """Add what the node does."""
        taker = self._takers.get(node.op_type)
        if taker is not None:
            taker(node)
        elif node.op_type in _SAME:
            self._same(node)
        elif node.op_type in _BINARY:
            self._binary(node)
        elif node.op_type in _UNARY:
            self._unary(node)
        elif node.op_type in _REDUCE:
            self._reduce(node)
        else:
            raise _none(node, f"the native engine has no {node.op_type}")

    def array(self, name: str) -> Array:
        """`name` in float, whatever made it."""
        if name in self._arrays:
            return self._arrays[name]
        if (constant := self.graph.constant(name)) is not None:
            made = Array(_size4(name, constant.shape), _channels_last(constant))
        elif name in self._pieces:
            pieces = self._pieces[name]
            size = pieces[0].value.size
            made = Array((*size, sum(piece.count for piece in pieces)))
            self.ops.append(RestoreOp(pieces, made))
        elif name in self._raw:
            op = self._raw[name]
            made = op.array = op.array or Array((*op.out, len(op.weights)))
        elif name in self._sums:
            made = Array(self._shape(name))
            self._add_up(name, made)
        else:
            raise ConversionError(f"the native engine cannot read '{name}'")
        self._arrays[name] = made
        return made

    def _shape(self, name: str) -> Size4:
        shape = self.graph.shapes.get(name)
        if shape is None or None in shape:
            raise ConversionError(f"the native engine needs fixed shapes, '{name}' has none")
        return _size4(name, shape)  # type: ignore[arg-type]

    def _size3(self, name: str) -> Size3:
        size = self._shape(name)
        return size[:3]

    # Rounding

    def _quantize(self, node: NodeProto) -> None:
        name, out = node.input[0], node.output[0]
        value = self._value(node)
        if name == self.graph.model.graph.input[0].name:
            self._pieces[out] = (Piece(value, 0, value.channels),)
            self._blocks[out] = (1, 1, 1)
        elif name in self._raw and self._raw[name].value is None:
            self._pieces[out] = self._rounded(name, value)
        elif name in self._sums and name not in self._arrays:
            if not self._is_inner(name, out):
                self._add_up(name, value)
                self._pieces[out] = (Piece(value, 0, value.channels),)
            else:
                self._sums[out] = self._sums[name]
        else:
            self.ops.append(RoundOp(self.array(name), value))
            self._pieces[out] = (Piece(value, 0, value.channels),)

    def _value(self, node: NodeProto) -> Value:
        scale, zero = self.graph.constant(node.input[1]), self.graph.constant(node.input[2])
        if scale is None or scale.size != 1 or zero is None or zero.any():
            raise _none(node, "it needs one step for all channels and a zero point of 0")
        *size, channels = self._shape(node.input[0])
        kind = 0 if zero.dtype == np.uint8 else 128
        return Value(node.input[0], (size[0], size[1], size[2]), channels, float(scale.item()), kind)

    def _is_inner(self, name: str, rounded: str) -> bool:
        """Whether a sum is rounded only to be added to something else: it is added unrounded instead."""
        (restored,) = (node.output[0] for node in self._readers[rounded]) if len(self._readers[rounded]) == 1 else ("",)
        readers = self._readers[restored]
        return not self._sums[name][1] and len(readers) == 1 and readers[0].op_type == "Add" and restored != ""

    def _dequantize(self, node: NodeProto) -> None:
        name, out = node.input[0], node.output[0]
        if name in self._pieces:
            self._pieces[out] = self._pieces[name]
            if name in self._blocks:
                self._blocks[out] = self._blocks[name]
        elif name in self._sums:
            self._sums[out] = self._sums[name]
        elif self.graph.constant(name) is None:
            raise _none(node, "it reads what nothing has rounded")

    def _rounded(self, name: str, value: Value) -> Pieces:
        """All outputs, rounded; those that an identity only hands on, to nobody else, are the pieces that it reads."""
        op = self._raw[name]
        carried = _carried(op, value) if len(self._readers[name]) == 1 and op.array is None else {}
        kept = np.array([channel for channel in range(value.channels) if channel not in carried])
        if carried:
            op.weights, op.scale, op.bias = op.weights[kept], op.scale[kept], op.bias[kept]
        op.value = Value(value.name, value.size, len(kept), value.step, value.zero)
        places = {channel: index for index, channel in enumerate(kept.tolist())}
        read, made = _singles(op.inputs), _singles([Piece(op.value, 0, len(kept))])
        channels = range(value.channels)
        return joined([read[carried[one]] if one in carried else made[places[one]] for one in channels])

    # Layers

    def _convolution(self, node: NodeProto) -> None:
        weights = self._weights(node)
        if attribute(node, "group", 1) != 1 or set(attribute(node, "dilations", [1])) != {1}:
            raise _none(node, "it has no grouped or dilated convolution")
        if weights.ndim != 5 or attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", "NOTSET"):
            raise _none(node, "it has 3-D convolutions with stated padding only")
        bias = self._bias(node, len(weights))
        stride = _three(attribute(node, "strides", [1, 1, 1]))
        pads = tuple(attribute(node, "pads", [0] * 6))
        pieces = self._pieces.get(node.input[0])
        if pieces is None or weights.dtype != np.int8:
            self._small_conv(node, weights, stride, pads)
            return
        if node.input[0] in self._blocks:
            self._input(node.input[0], pieces[0].value)
        size, kernel = pieces[0].value.size, weights.shape[2:]
        op = ConvOp(
            name=node_label(node),
            inputs=joined(pieces),
            weights=np.ascontiguousarray(weights.transpose(0, 2, 3, 4, 1)),
            scale=(self._weight_scale(node, len(weights)) * pieces[0].value.step).astype(np.float32),
            bias=bias,
            stride=stride,
            pad=_three(pads[:3]),
            out=out_size(size, _three(kernel), stride, pads),
            relu=False,
        )
        self.ops.append(op)
        self._raw[node.output[0]] = op

    def _input(self, name: str, value: Value) -> None:
        block = self._blocks.pop(name)
        if any(isinstance(op, InputOp) for op in self.ops):
            raise ConversionError("the native engine reads the clip once")
        _, channels, *size = self.graph.shapes[self.graph.model.graph.input[0].name]
        self.ops.append(InputOp(value, int(channels or 0), _three(size), block))

    def _weights(self, node: NodeProto) -> np.ndarray:
        """int8 where they are behind a DequantizeLinear, else float."""
        maker = self.graph.producers.get(node.input[1])
        name = maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else node.input[1]
        weights = self.graph.constant(name)
        if weights is None:
            raise _none(node, "it needs constant weights")
        return weights

    def _weight_scale(self, node: NodeProto, outputs: int) -> np.ndarray:
        scale = self.graph.constant(self.graph.producers[node.input[1]].input[1])
        assert scale is not None
        return np.broadcast_to(scale.reshape(-1), (outputs,)).astype(np.float32)

    def _bias(self, node: NodeProto, outputs: int) -> np.ndarray:
        if len(node.input) < 3 or not node.input[2]:
            return np.zeros(outputs, np.float32)
        bias = self.graph.constant(node.input[2])
        if bias is None or bias.dtype != np.float32:
            raise _none(node, "it needs a constant bias in float")
        return bias

    def _real_weights(self, node: NodeProto) -> np.ndarray:
        weights = self._weights(node)
        if weights.dtype == np.int8:
            scale = self._weight_scale(node, len(weights)).reshape(-1, *[1] * (weights.ndim - 1))
            weights = weights.astype(np.float32) * scale
        return weights.astype(np.float32)

    def _small_conv(self, node: NodeProto, weights: np.ndarray, stride: Size3, pads: tuple[int, ...]) -> None:
        source, out = self.array(node.input[0]), self._shape(node.output[0])
        if set(stride) != {1} or out[:3] != source.size[:3]:
            raise _none(node, "in float it has only convolutions that keep the size")
        if np.prod(out) * weights[0].size > _LARGEST_FLOAT:
            raise _none(node, "it is left in float and too large for that")
        weights = np.ascontiguousarray(self._real_weights(node).transpose(0, 2, 3, 4, 1))
        part = FloatPart(weights, self._bias(node, len(weights)), _three(pads[:3]))
        self._arithmetic(node, "small-conv", "", (source,), part=part)

    def _gemm(self, node: NodeProto) -> None:
        plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
        if not plain or not attribute(node, "transB", 0) or attribute(node, "transA", 0):
            raise _none(node, "it has only Gemm with transposed weights")
        weights = self._real_weights(node)
        if weights.size > _LARGEST_FLOAT:
            raise _none(node, "it is computed in float and too large for that")
        part = FloatPart(weights, self._bias(node, len(weights)))
        source = self.array(node.input[0])
        if source.size[:3] != (1, 1, 1):
            raise _none(node, "it classifies vectors only")
        self._arithmetic(node, "dense", "", (source,), part=part)

    def _pool(self, node: NodeProto) -> None:
        pieces = self._pieces.get(node.input[0])
        if pieces is None or set(attribute(node, "dilations", [1])) != {1} or len(node.output) > 1:
            raise _none(node, "it pools features in INT8 only, without dilation")
        first = pieces[0].value
        channels = sum(piece.count for piece in pieces)
        to = Value(node.output[0], self._size3(node.output[0]), channels, first.step, first.zero)
        kernel, stride = _three(attribute(node, "kernel_shape", [])), _three(attribute(node, "strides", [1, 1, 1]))
        self.ops.append(PoolOp(pieces, to, kernel, stride, _three(attribute(node, "pads", [0] * 6)[:3])))
        self._pieces[node.output[0]] = (Piece(to, 0, channels),)

    # Moving

    def _split(self, node: NodeProto) -> None:
        pieces = self._pieces.get(node.input[0])
        if pieces is None or attribute(node, "axis", 0) != 1:
            raise _none(node, "it splits channels of features in INT8 only")
        singles, first = _singles(pieces), 0
        for name in node.output:
            last = first + self._shape(name)[3]
            self._pieces[name] = joined(singles[first:last])
            first = last

    def _concat(self, node: NodeProto) -> None:
        if attribute(node, "axis", 0) != 1:
            raise _none(node, "it joins channels only")
        if all(name in self._pieces for name in node.input):
            self._pieces[node.output[0]] = joined([piece for name in node.input for piece in self._pieces[name]])
            return
        arrays = [self.array(name) for name in node.input]
        if any(array.size[3] != 1 for array in arrays):
            raise _none(node, "in float it joins single channels only")
        total: Array | None = None
        for index, array in enumerate(arrays):  # each times its own unit vector, then added up
            size: Size4 = (*array.size[:3], len(arrays))
            unit = np.eye(len(arrays), dtype=np.float32)[index]
            spread = Array(size)
            self.ops.append(ArrayOp("binary", "mul", (array, Array((1, 1, 1, len(arrays)), unit)), spread))
            if total is not None:
                joint = Array(size)
                self.ops.append(ArrayOp("binary", "add", (total, spread), joint))
                spread = joint
            total = spread
        assert total is not None
        self._arrays[node.output[0]] = total

    def _same(self, node: NodeProto) -> None:
        name, out = node.input[0], node.output[0]
        if name in self._blocks:
            self._blocks[out], self._pieces[out] = self._blocks[name], self._pieces[name]
            shape = self.graph.shapes[out]
            if len(shape) == 5 and shape != self.graph.shapes[self.graph.model.graph.input[0].name]:
                (piece,) = self._pieces[name]
                value = Value(out, self._size3(out), int(shape[1] or 0), piece.value.step, piece.value.zero)
                self._pieces[out] = (Piece(value, 0, value.channels),)
            return
        source, size = self.array(name), self._shape(out)
        if source.size != size:
            raise _none(node, "it keeps the order of values only where vectors stay vectors")
        self._arrays[out] = source

    def _transpose(self, node: NodeProto) -> None:
        """Space to depth, the only one: (1, C, T, H / b, b, W / b, b) to (1, C, b, b, T, H / b, W / b)."""
        name, out = node.input[0], node.output[0]
        shape = self.graph.shapes[name]
        if name not in self._blocks or list(attribute(node, "perm", [])) != [0, 1, 4, 6, 2, 3, 5]:
            raise _none(node, "it turns nothing but the clip, from space to depth")
        self._blocks[out] = (1, int(shape[4] or 0), int(shape[6] or 0))
        self._pieces[out] = self._pieces[name]

    # Arithmetic

    def _add(self, node: NodeProto) -> None:
        names = list(node.input)
        if all(self._can_add_up(name) for name in names) and len(self.graph.shapes[names[0]]) == 5:
            self._sums[node.output[0]] = (names, False)
        else:
            self._binary(node)

    def _can_add_up(self, name: str) -> bool:
        in_float = name in self._arrays
        return not in_float and (name in self._pieces or name in self._raw or name in self._sums)

    def _relu(self, node: NodeProto) -> None:
        name, out = node.input[0], node.output[0]
        only = len(self._readers[name]) == 1 and name not in self._results
        if name in self._raw and only and self._raw[name].value is None:
            self._raw[out] = self._raw.pop(name)
            self._raw[out].relu = True
        elif name in self._sums and only and name not in self._arrays:
            self._sums[out] = (self._sums[name][0], True)
        else:
            self._unary(node)

    def _terms(self, name: str) -> list[str]:
        """What a sum adds up, sums within it opened."""
        if name not in self._sums:
            return [name]
        return [term for one in self._sums[name][0] for term in self._terms(one)]

    def _add_up(self, name: str, to: Value | Array) -> None:
        """Have convolutions compute the sum `name` where they store: the last of those that it adds up, by channels."""
        terms = self._terms(name)
        relu = self._sums[name][1]
        raw = [self._raw[term] for term in terms if term in self._raw]
        pieces = [self._pieces[term] for term in terms if term not in self._raw]
        channels = to.channels if isinstance(to, Value) else to.size[3]
        if len(raw) > 1 or len(terms) > 3:
            raise ConversionError(f"the native engine adds up one convolution and two features at most, not '{name}'")
        if raw:  # it stores last, when everything else is there; nothing may have read it before
            if raw[0].value is not None or raw[0].array is not None or raw[0].sums:
                raise ConversionError(
                    f"the native engine cannot add '{raw[0].name}' unrounded and use it elsewhere, too"
                )
            self.ops.remove(raw[0])
            self.ops.append(raw[0])
        singles = [_singles(one) for one in pieces]
        for first, last in _runs(channels, singles):
            parts = [joined(one[first:last])[0] for one in singles]
            self._store_sum(raw, parts, Sum(first, last, to, first, 1, (), relu))

    def _store_sum(self, raw: list[ConvOp], parts: list[Piece], total: Sum) -> None:
        own: list[Piece] = []
        first = total.first
        makers = {id(op.value): op for op in self.ops if isinstance(op, ConvOp) and op.value is not None}
        computed = raw or [makers[id(part.value)] for part in parts if id(part.value) in makers]
        op = max(computed, key=self.ops.index, default=None)
        if op is None or self.ops.index(op) < max((self._written(part.value) for part in parts), default=0):
            raise ConversionError("the native engine adds to what a convolution makes, and only while it makes it")
        if not raw and self._add_in_turn(parts, makers, total):
            return
        if not raw:
            own = [part for part in parts if part.value is op.value]
            first = own[0].first
            if any(part != own[0] for part in own):
                raise ConversionError(f"the native engine does not add channels of '{op.name}' to others of it")
        rest = tuple(part for part in parts if part not in own)
        times = float(max(len(own), 1))
        op.sums.append(Sum(first, first + total.last - total.first, total.to, total.at, times, rest, total.relu))

    def _add_in_turn(self, parts: list[Piece], makers: Mapping[int, ConvOp], total: Sum) -> bool:
        """Have two convolutions add in turn, where the last one would have two summands; whether that was possible.

        The first one stores its outputs with the other summand, and the last one, which in MSL has a small kernel and
        little time beside its products, adds to these bytes. Nothing may be negative: bytes are added up to 255.
        """
        if isinstance(total.to, Array) or total.to.zero or any(part.value.zero for part in parts):
            return False
        order = sorted({makers[id(part.value)] for part in parts if id(part.value) in makers}, key=self.ops.index)
        if len(order) < 2 or len(set(parts)) < 3:
            return False
        first, last = order[-2:]
        rest = tuple(part for part in parts if part.value not in (first.value, last.value))
        if self.ops.index(first) <= max((self._written(part.value) for part in rest), default=-1):
            return False
        width = total.last - total.first
        for op, terms in ((first, rest), (last, ())):
            own = [part for part in parts if part.value is op.value]
            if any(part != own[0] for part in own):
                return False
            begin, times, onto = own[0].first, float(len(own)), op is last
            op.sums.append(Sum(begin, begin + width, total.to, total.at, times, terms, total.relu, onto))
        return True

    def _written(self, value: Value) -> int:
        """Place of the last operation that writes it."""
        return max(index for index, op in enumerate(self.ops) if value in _results(op))

    def _binary(self, node: NodeProto) -> None:
        if len(node.input) != 2:
            raise _none(node, f"it has {node.op_type} of two only")
        self._arithmetic(node, "binary", _BINARY[node.op_type], tuple(self.array(name) for name in node.input))

    def _unary(self, node: NodeProto) -> None:
        self._arithmetic(node, "unary", _UNARY[node.op_type], (self.array(node.input[0]),))

    def _reduce(self, node: NodeProto) -> None:
        source = self.array(node.input[0])
        rank = len(self.graph.shapes[node.input[0]])
        axes = attribute(node, "axes", None)
        if len(node.input) > 1 and (constant := self.graph.constant(node.input[1])) is not None:
            axes = constant.tolist()
        if node.op_type.startswith("Global"):
            axes = [2, 3, 4]
        if rank != 5 or axes is None:
            raise _none(node, "it reduces features over stated axes only")
        reduced = {axis % rank for axis in axes}
        over = (2 in reduced, 3 in reduced, 4 in reduced, 1 in reduced)
        made = tuple(1 if one else size for one, size in zip(over, source.size, strict=True))
        if made != self._shape(node.output[0]):
            raise _none(node, "what it leaves is neither features nor a vector")
        self._arithmetic(node, "reduce", _REDUCE[node.op_type], (source,), over=over)

    def _arithmetic(self, node: NodeProto, kind: str, op: str, inputs: tuple[Array, ...], **more: Any) -> None:
        to = Array(self._shape(node.output[0]))
        self.ops.append(ArrayOp(kind, op, inputs, to, **more))
        self._arrays[node.output[0]] = to


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
    return found


def _results(op: Op) -> list[Value | Array | None]:
    if isinstance(op, ConvOp):
        return [op.value, *(one.to for one in op.sums)]
    return [op.to]


def _singles(pieces: Iterable[Piece]) -> list[Piece]:
    """One piece a channel."""
    return [Piece(piece.value, channel, channel + 1) for piece in pieces for channel in range(piece.first, piece.last)]


def _runs(channels: int, terms: list[list[Piece]]) -> list[tuple[int, int]]:
    """Ranges of channels in which every term goes on without a break."""
    cuts = {0, channels}
    for singles in terms:
        for channel in range(1, channels):
            before, after = singles[channel - 1], singles[channel]
            if before.value is not after.value or before.last != after.first:
                cuts.add(channel)
    edges = sorted(cuts)
    return list(pairwise(edges))


def _size4(name: str, shape: tuple[int, ...]) -> Size4:
    """ONNX's (1, C, T, H, W), (1, C), or fewer axes of size 1, as (T, H, W, C)."""
    if len(shape) == 5 and shape[0] == 1:
        return shape[2], shape[3], shape[4], shape[1]
    channels = Counter(shape)
    if len(shape) >= 2 and shape[0] == 1 and channels[1] >= len(shape) - 1:
        return 1, 1, 1, shape[1]
    if len(shape) == 2 and shape[0] == 1:
        return 1, 1, 1, shape[1]
    if len(shape) <= 1:
        return 1, 1, 1, shape[0] if shape else 1
    raise ConversionError(f"the native engine has features and vectors only, '{name}' is {shape}")


def _channels_last(constant: np.ndarray) -> np.ndarray:
    values = constant.astype(np.float32)
    return np.ascontiguousarray(values[0].transpose(1, 2, 3, 0) if values.ndim == 5 else values.reshape(-1))


def _three(values: Iterable[int | None]) -> Size3:
    first, second, third = (int(value or 0) for value in values)
    return first, second, third


def _none(node: NodeProto, why: str) -> ConversionError:
    return ConversionError(f"layer '{node_label(node)}': {why}")
