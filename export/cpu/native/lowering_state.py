"""What the compiler knows of a graph while it reads its nodes: how each ONNX tensor is available."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgeact.export.cpu.native.fuse_adds import MAX_ADDENDS, fuse_add
from edgeact.export.cpu.native.ir import (
    ConvOp,
    DequantizeOp,
    FloatOp,
    FloatTensor,
    InputOp,
    QuantizedTensor,
    Slices,
    Tensor,
)
from edgeact.export.cpu.native.onnx_nodes import channels_last, size4
from edgeact.export.cpu.native.refusals import Layer, UnmetRequirement
from edgeact.export.cpu.native.schedule import Schedule
from edgeact.export.graph.values import constant_array, describe_dims, name_of, static_dims
from edgeact.runtime.native.program import Size3, Size4

__all__ = ["LoweringState", "PendingAdd"]


@dataclass(frozen=True)
class PendingAdd:
    """An addition of INT8 activations that no operation computes yet."""

    inputs: tuple[ir.Value, ...]
    layer: Layer
    relu: bool = False


class LoweringState:
    """The operations so far, and how each ONNX tensor is available.

    A tensor is in one of `slices`, `convs` and `adds`, or a constant; `floats` holds it as well once a layer reads it
    in float.
    """

    def __init__(self, clip: ir.Value) -> None:
        self.clip = clip
        """Input of the graph."""
        self.schedule = Schedule()
        self.slices: dict[ir.Value, Slices] = {}
        """Quantized activations."""
        self.floats: dict[ir.Value, FloatTensor] = {}
        """Float activations."""
        self.convs: dict[ir.Value, ConvOp] = {}
        """Outputs of convolutions, before quantization, with their ReLU."""
        self.adds: dict[ir.Value, PendingAdd] = {}
        self.flattened: dict[ir.Value, FloatTensor] = {}
        """Vectors with the values of an activation in ONNX order, (C, T, H, W): only a classifier reads them."""
        self.clip_blocks: dict[ir.Value, Size3] = {}
        """The quantized clip before any convolution: its space-to-depth blocks."""
        self._reads_clip = False

    def size(self, value: ir.Value) -> Size4:
        """Return the shape of a tensor as (T, H, W, C)."""
        shape = static_dims(value)
        if shape is None:
            raise UnmetRequirement("static-shape", f"{describe_dims(value)} of '{name_of(value)}'")
        return size4(name_of(value), shape)

    def read_slices(self, value: ir.Value) -> Slices | None:
        """Return the slices of a quantized tensor for an operation that reads them, None if it is in float.

        The first operation that reads the quantized clip decides its space-to-depth blocks.
        """
        slices = self.slices.get(value)
        if slices is not None and value in self.clip_blocks:
            self._append_input(value, slices[0].tensor)
        return slices

    def _append_input(self, value: ir.Value, tensor: QuantizedTensor) -> None:
        block = self.clip_blocks.pop(value)
        if self._reads_clip:
            raise UnmetRequirement("one-clip-reader", f"a second one through '{name_of(value)}'")
        self._reads_clip = True
        time, height, width, channels = self.size(self.clip)
        self.schedule.append(InputOp(tensor, channels, (time, height, width), block))

    @staticmethod
    def only_reader(value: ir.Value) -> ir.Node | None:
        """Return the single node that reads a tensor; None if there are more, or if it is an output of the graph."""
        readers = value.consumers()
        return readers[0] if len(readers) == 1 and not value.is_graph_output() else None

    def float_tensor(self, value: ir.Value) -> FloatTensor:
        """Return a tensor in float, dequantized or computed if it is not available so far."""
        if value not in self.floats:
            self.floats[value] = self._make_float(value)
        return self.floats[value]

    def _make_float(self, value: ir.Value) -> FloatTensor:
        if (constant := constant_array(value)) is not None:
            return FloatTensor(size4(name_of(value), constant.shape), channels_last(constant))
        if (slices := self.read_slices(value)) is not None:
            to = FloatTensor((*slices[0].tensor.size, sum(part.count for part in slices)))
            self.schedule.append(DequantizeOp(slices, to))
            return to
        if (conv := self.convs.get(value)) is not None:
            conv.unquantized = conv.unquantized or FloatTensor((*conv.out_size, len(conv.weights)))
            return conv.unquantized
        if value in self.adds:
            to = FloatTensor(self.size(value))
            self.fuse_add(value, to)
            return to
        if (whole := self.flattened.get(value)) is not None:
            raise UnmetRequirement("same-order", f"(T, H, W, C) {whole.size} to {self.size(value)}")
        got = f"the clip '{name_of(value)}' in float" if value is self.clip else f"'{name_of(value)}'"
        raise UnmetRequirement("readable-input", got)

    def compute(self, value: ir.Value, op: FloatOp) -> None:
        """Append a float operation whose result is the ONNX tensor `value`."""
        self.schedule.append(op)
        self.floats[value] = op.to

    def can_fuse_sum(self, inputs: Sequence[ir.Value]) -> bool:
        """Return whether the sum of `inputs`, nested additions flattened, is one that a convolution can add up."""
        if not all(self._can_fuse(value) for value in inputs):
            return False
        leaves = [leaf for value in inputs for leaf in self._add_inputs(value)]
        return len(leaves) <= MAX_ADDENDS and sum(leaf in self.convs for leaf in leaves) <= 1

    def _can_fuse(self, value: ir.Value) -> bool:
        if value in self.floats:
            return False
        if value in self.adds:  # its inputs are added instead, and a ReLU in between would be lost
            return not self.adds[value].relu
        return value in self.slices or value in self.convs

    def fuse_add(self, value: ir.Value, to: Tensor) -> None:
        """Let convolutions compute the pending addition `value` into `to`; raises UnmetRequirement."""
        inputs = self._add_inputs(value)
        convs = [self.convs[each] for each in inputs if each in self.convs]
        addends = [slices for each in inputs if each not in self.convs and (slices := self.read_slices(each))]
        try:
            fuse_add(self.schedule, convs, addends, to, relu=self.adds[value].relu)
        except UnmetRequirement as error:
            raise UnmetRequirement(error.requirement, error.got, self.adds[value].layer) from error

    def _add_inputs(self, value: ir.Value) -> list[ir.Value]:
        """Return the inputs of an addition, nested additions flattened."""
        if value not in self.adds:
            return [value]
        return [leaf for each in self.adds[value].inputs for leaf in self._add_inputs(each)]
