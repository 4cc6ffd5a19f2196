"""Code generation: the instructions of a native program, and the file of its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from edgeact.export.cpu.native.buffers import Allocation, Placement, allocate
from edgeact.export.cpu.native.ir import (
    BinaryOp,
    ChannelSlice,
    ConvOp,
    DenseOp,
    DequantizeOp,
    FloatConvOp,
    FloatOp,
    FloatPoolOp,
    FloatTensor,
    FusedAdd,
    InputOp,
    Op,
    PoolOp,
    QuantizedTensor,
    QuantizeOp,
    ReduceOp,
    UnaryOp,
)
from edgeact.export.cpu.native.lower import Lowered
from edgeact.export.cpu.native.onnx_nodes import ungrouped
from edgeact.export.cpu.native.refusals import NotLoweredError
from edgeact.runtime.native.program import (
    Binary,
    Conv,
    Dense,
    Dequantize,
    Epilogue,
    FloatConv,
    FloatPool,
    Input,
    Instruction,
    Pool,
    Program,
    Quantize,
    Reduce,
    Summand,
    Unary,
    join_tensors,
)

__all__ = ["generate"]

_TILE_OUTPUTS = 16


def generate(lowered: Lowered) -> tuple[Program, bytes]:
    """Return the program of a lowered graph and the file of its tensors; raises NotLoweredError."""
    generator = _Generator(allocate(lowered.ops))
    instructions = [instruction for op in lowered.ops for instruction in generator.instructions(op)]
    return generator.program(instructions, lowered.logits)


@dataclass(frozen=True)
class _EpilogueDraft:
    """An epilogue with the values of its scale and bias."""

    first: int
    last: int
    to: int
    channel: int
    is_float: bool
    relu: bool
    relu_after_sum: bool
    accumulate: bool
    summands: tuple[Summand, ...]
    scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def continues(self, before: _EpilogueDraft) -> bool:
        """Return whether this epilogue begins where `before` ends, in outputs, destination and summands."""
        count = before.last - before.first
        shifted = tuple(summand.model_copy(update={"channel": summand.channel + count}) for summand in before.summands)
        return (
            (self.first, self.channel, self.summands) == (before.last, before.channel + count, shifted)
            and (self.to, self.is_float, self.accumulate) == (before.to, before.is_float, before.accumulate)
            and (self.relu, self.relu_after_sum) == (before.relu, before.relu_after_sum)
        )

    def restricted(self, first: int, last: int) -> _EpilogueDraft | None:
        """Return this epilogue for outputs [first, last), counted from `first`; None if it stores none of them."""
        low, high = max(self.first, first), min(self.last, last)
        if low >= high:
            return None
        skipped = low - self.first
        return replace(
            self,
            first=low - first,
            last=high - first,
            channel=self.channel + skipped,
            summands=tuple(each.model_copy(update={"channel": each.channel + skipped}) for each in self.summands),
            scale=self.scale[skipped : skipped + high - low],
            bias=self.bias[skipped : skipped + high - low],
        )

    def extended(self, after: _EpilogueDraft) -> _EpilogueDraft:
        """Return this epilogue with the outputs of the one that continues it."""
        scale, bias = np.concatenate([self.scale, after.scale]), np.concatenate([self.bias, after.bias])
        return replace(self, last=after.last, scale=scale, bias=bias)


class _Generator:
    def __init__(self, allocation: Allocation) -> None:
        self._allocation = allocation
        self._arrays: dict[FloatTensor, int] = {}
        self._tensors: list[npt.NDArray[np.generic]] = []

    def program(self, instructions: Sequence[Instruction], logits: FloatTensor) -> tuple[Program, bytes]:
        """Return the whole program and the file of its tensors."""
        logits_array = self._array(logits)
        constants = {
            index: self._tensor(array.constant) for array, index in self._arrays.items() if array.constant is not None
        }
        refs, data = join_tensors(self._tensors)
        program = Program(
            buffers=tuple(self._allocation.buffers),
            arrays=tuple(array.size for array in self._arrays),
            constants=constants,
            tensors=refs,
            instructions=tuple(instructions),
            logits=logits_array,
        )
        return program, data

    def instructions(self, op: Op) -> Iterator[Instruction]:
        """Yield the instructions of one operation."""
        match op:
            case InputOp():
                yield self._input(op)
            case ConvOp():
                yield from self._convs(op)
            case PoolOp():
                for source, to in self._allocation.pooled_buffers(op):
                    yield Pool(buffer=source, to=to, kernel=op.kernel, stride=op.stride, padding=op.padding)
            case QuantizeOp():
                array = self._array(op.source)
                for placement in self._allocation.whole_placements(op.to):
                    to, channel = placement.buffer, placement.channel
                    yield Quantize(array=array, to=to, channel=channel, scale=op.to.scale)
            case DequantizeOp():
                yield from self._dequantize(op)
            case _:
                yield self._float_instruction(op)

    def _array(self, tensor: FloatTensor) -> int:
        return self._arrays.setdefault(tensor, len(self._arrays))

    def _tensor(self, values: npt.NDArray[np.generic]) -> int:
        self._tensors.append(np.ascontiguousarray(values))
        return len(self._tensors) - 1

    def _input(self, op: InputOp) -> Input:
        placements = self._allocation.whole_placements(op.to)
        buffers = {placement.buffer for placement in placements}
        if len(placements) > 1 or self._allocation.buffers[placements[0].buffer].channels != op.to.channels:
            got = f"readers of its channels in {len(buffers)} buffers"
            raise NotLoweredError(op.to.layer, "whole-tensor", got)
        return Input(to=placements[0].buffer, channels=op.channels, size=op.size, block=op.block, scale=op.to.scale)

    def _convs(self, op: ConvOp) -> Iterator[Conv]:
        """Yield one convolution, or with groups one for as many groups as have the outputs of a tile.

        A tile reads the channels of its groups only; the weights between its groups are 0.
        """
        drafts = sorted(self._epilogues(op), key=lambda draft: (draft.is_float, draft.to, draft.first))
        merged = _merge_epilogues(drafts)
        outputs, inputs = len(op.weights) // op.groups, op.weights.shape[-1]
        together = op.groups if op.groups == 1 else max(1, _TILE_OUTPUTS // outputs)
        for group in range(0, op.groups, together):
            count = min(together, op.groups - group)
            first, last = group * outputs, (group + count) * outputs
            parts = [part for draft in merged if (part := draft.restricted(first, last)) is not None]
            yield Conv(
                buffer=self._allocation.buffer_of(op.inputs),
                channel=group * inputs,
                epilogues=tuple(self._epilogue(part) for part in parts),
                weights=self._tensor(ungrouped(op.weights[first:last], count)),
                stride=op.stride,
                padding=op.padding,
                out_size=op.out_size,
            )

    def _epilogue(self, draft: _EpilogueDraft) -> Epilogue:
        return Epilogue(
            first=draft.first,
            last=draft.last,
            to=draft.to,
            channel=draft.channel,
            is_float=draft.is_float,
            relu=draft.relu,
            relu_after_sum=draft.relu_after_sum,
            accumulate=draft.accumulate,
            summands=draft.summands,
            scale=self._tensor(draft.scale),
            bias=self._tensor(draft.bias),
        )

    def _epilogues(self, op: ConvOp) -> Iterator[_EpilogueDraft]:
        if op.quantized is not None:
            for placement in self._allocation.placements(op.quantized):
                first, last = placement.slice.first, placement.slice.last
                store = FusedAdd(first, last, op.quantized, channel=first, relu=False)
                yield self._draft(op, store, placement)
        if op.unquantized is not None:
            yield self._draft(op, FusedAdd(0, len(op.weights), op.unquantized, channel=0, relu=False), None)
        for add in op.adds:
            destinations: Sequence[Placement | None] = [None]
            if isinstance(add.to, QuantizedTensor):
                destinations = self._allocation.placements(add.to)
            for destination in destinations:
                for part in self._divided(add, destination):
                    yield self._draft(op, part, destination)

    def _divided(self, add: FusedAdd, destination: Placement | None) -> Iterator[FusedAdd]:
        """Divide an addition where an addend continues in another buffer, and restrict it to the destination.

        In every part, each addend is one slice that a single placement holds.
        """
        low, high = 0, add.last - add.first  # relative to add.first
        if destination is not None:
            low = max(low, destination.slice.first - add.channel)
            high = min(high, destination.slice.last - add.channel)
        if low >= high:
            return
        covers = [
            [(placement.slice, placement.slice.first - addend.first) for placement in self._allocation.locate(addend)]
            for addend in add.addends
        ]
        edges = {low, high, *(start for cover in covers for _, start in cover if low < start < high)}
        for first, last in pairwise(sorted(edges)):
            addends = tuple(
                ChannelSlice(piece.tensor, piece.first + first - start, piece.first + last - start)
                for cover in covers
                for piece, start in cover
                if start <= first < start + piece.count
            )
            channel = add.channel + first
            yield replace(add, first=add.first + first, last=add.first + last, channel=channel, addends=addends)

    def _draft(self, op: ConvOp, add: FusedAdd, destination: Placement | None) -> _EpilogueDraft:
        """Return the epilogue that stores `add` at `destination`, or in float without one."""
        if isinstance(add.to, FloatTensor):
            scale, buffer, channel = 1.0, self._array(add.to), add.channel
        else:
            assert destination is not None
            scale, buffer = add.to.scale, destination.buffer
            channel = destination.channel + add.channel - destination.slice.first
        summands = []
        for addend in add.addends:
            (placement,) = self._allocation.locate(addend)
            factor = addend.tensor.scale / scale
            summands.append(Summand(buffer=placement.buffer, channel=placement.channel, scale=factor))
        factor = add.multiplicity / scale
        return _EpilogueDraft(
            first=add.first,
            last=add.last,
            to=buffer,
            channel=channel,
            is_float=destination is None,
            relu=op.relu,
            relu_after_sum=add.relu,
            accumulate=add.accumulate,
            summands=tuple(summands),
            scale=(op.scale[add.first : add.last] * factor).astype(np.float32),
            bias=(op.bias[add.first : add.last] * factor).astype(np.float32),
        )

    def _dequantize(self, op: DequantizeOp) -> Iterator[Dequantize]:
        channel, to = 0, self._array(op.to)
        for part in op.slices:
            for placement in self._allocation.locate(part):
                count = placement.slice.count
                yield Dequantize(
                    buffer=placement.buffer,
                    channel=placement.channel,
                    channels=count,
                    scale=part.tensor.scale,
                    to=to,
                    to_channel=channel,
                )
                channel += count

    def _float_instruction(self, op: FloatOp) -> Instruction:
        match op:
            case BinaryOp():
                a, b, to = self._array(op.a), self._array(op.b), self._array(op.to)
                return Binary(op=op.operator, a=a, b=b, to=to)
            case UnaryOp():
                array, to = self._array(op.source), self._array(op.to)
                return Unary(op=op.operator, array=array, to=to)
            case ReduceOp():
                array, to = self._array(op.source), self._array(op.to)
                return Reduce(op=op.operator, array=array, axes=op.axes, to=to)
            case DenseOp():
                array, to = self._array(op.source), self._array(op.to)
                return Dense(array=array, weights=self._tensor(op.weights), bias=self._tensor(op.bias), to=to)
            case FloatConvOp():
                array, to = self._array(op.source), self._array(op.to)
                weights, bias = self._tensor(op.weights), self._tensor(op.bias)
                return FloatConv(array=array, weights=weights, bias=bias, padding=op.padding, to=to)
            case FloatPoolOp():
                array, to = self._array(op.source), self._array(op.to)
                return FloatPool(array=array, kernel=op.kernel, stride=op.stride, padding=op.padding, to=to)


def _merge_epilogues(drafts: Sequence[_EpilogueDraft]) -> list[_EpilogueDraft]:
    """Merge epilogues that continue each other: fewer, wider stores."""
    merged: list[_EpilogueDraft] = []
    for draft in drafts:
        if merged and draft.continues(merged[-1]):
            merged[-1] = merged[-1].extended(draft)
        else:
            merged.append(draft)
    return merged
