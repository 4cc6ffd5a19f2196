"""Buffer allocation: which buffers hold which channels of each quantized tensor.

Convolutions and pools read all their input channels from one buffer. So each different sequence of input slices gets a
buffer, and a tensor with several readers is stored into the buffers of all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeact.export.cpu.native.ir import (
    ChannelSlice,
    ConvOp,
    DequantizeOp,
    InputOp,
    Op,
    PoolOp,
    QuantizedTensor,
    QuantizeOp,
    Slices,
    merge_slices,
    single_channels,
)
from edgeact.export.cpu.native.refusals import NotLoweredError
from edgeact.runtime.native.program import Buffer

__all__ = ["Allocation", "Placement", "allocate"]


@dataclass(frozen=True)
class Placement:
    """A slice that a buffer holds from `channel` on."""

    slice: ChannelSlice
    buffer: int
    channel: int


class Allocation:
    """The buffers of a program, and what they hold."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self._indices: dict[Slices, int] = {}
        self._placements: defaultdict[QuantizedTensor, list[Placement]] = defaultdict(list)

    def buffer_of(self, slices: Slices) -> int:
        """Return the index of the buffer that holds exactly these slices in order; allocate it on first use."""
        slices = merge_slices(slices)
        if slices not in self._indices:
            self._indices[slices] = self._allocate(slices)
        return self._indices[slices]

    def _allocate(self, slices: Slices) -> int:
        index, channel = len(self.buffers), 0
        for part in slices:
            self._placements[part.tensor].append(Placement(part, index, channel))
            channel += part.count
        tensor = slices[0].tensor
        self.buffers.append(Buffer(size=tensor.size, channels=channel, zero_point=tensor.zero_point))
        return index

    def placements(self, tensor: QuantizedTensor) -> list[Placement]:
        """Return all placements of a tensor's slices, in order of allocation."""
        return list(self._placements[tensor])

    def whole_placements(self, tensor: QuantizedTensor) -> list[Placement]:
        """Return all placements of a tensor whose producer stores all channels together.

        Raises NotLoweredError if a buffer holds only part of the channels.
        """
        placements = self.placements(tensor)
        if any(placement.slice.count != tensor.channels for placement in placements):
            raise _not_whole(tensor)
        return placements

    def locate(self, wanted: ChannelSlice) -> list[Placement]:
        """Cover a slice with as few placements as possible, each restricted to its share of the slice."""
        cover, first = [], wanted.first
        while first < wanted.last:
            options = [each for each in self._placements[wanted.tensor] if each.slice.first <= first < each.slice.last]
            longest = max(options, key=lambda placement: placement.slice.last)
            last = min(longest.slice.last, wanted.last)
            channel = longest.channel + first - longest.slice.first
            cover.append(Placement(ChannelSlice(wanted.tensor, first, last), longest.buffer, channel))
            first = last
        return cover

    def unplaced(self, wanted: ChannelSlice) -> Iterator[ChannelSlice]:
        """Yield the parts of a slice that no buffer holds."""
        is_placed = np.zeros(wanted.tensor.channels, bool)
        for placement in self._placements[wanted.tensor]:
            is_placed[placement.slice.first : placement.slice.last] = True
        missing = [channel for channel in single_channels([wanted]) if not is_placed[channel.first]]
        yield from merge_slices(missing)

    def pooled_buffers(self, op: PoolOp) -> list[tuple[int, int]]:
        """Return (source buffer, destination buffer) of each order of channels in which the pool's output is read.

        Raises NotLoweredError if a buffer holds the output beside another tensor.
        """
        inputs = single_channels(op.inputs)
        pairs = []
        for slices, to in list(self._indices.items()):
            is_output = [part.tensor is op.to for part in slices]
            if not any(is_output):
                continue
            if not all(is_output):
                raise _not_whole(op.to)
            source = self.buffer_of(tuple(channel for part in slices for channel in inputs[part.first : part.last]))
            pairs.append((source, to))
        return pairs


def allocate(ops: Sequence[Op]) -> Allocation:
    """Allocate the buffers of operations in program order; raises NotLoweredError."""
    allocation = Allocation()
    for op in ops:
        _allocate_whole_reads(allocation, op)
    for op in ops:
        _allocate_other_reads(allocation, op)
    for op in reversed(ops):  # the order that a pool's output needs may come from a later pool
        if isinstance(op, PoolOp):
            allocation.pooled_buffers(op)
    return allocation


def _allocate_whole_reads(allocation: Allocation, op: Op) -> None:
    """Allocate what an operation reads from one buffer, and what it stores into one buffer."""
    if isinstance(op, ConvOp | PoolOp):
        allocation.buffer_of(op.inputs)
    if isinstance(op, InputOp | QuantizeOp | PoolOp):
        allocation.buffer_of((ChannelSlice(op.to, 0, op.to.channels),))


def _allocate_other_reads(allocation: Allocation, op: Op) -> None:
    """Allocate slices that are read separately and that no buffer holds so far."""
    slices: Slices = op.slices if isinstance(op, DequantizeOp) else ()
    if isinstance(op, ConvOp):
        slices = tuple(part for add in op.adds for part in add.addends)
    for part in slices:
        for missing in allocation.unplaced(part):
            allocation.buffer_of((missing,))


def _not_whole(tensor: QuantizedTensor) -> NotLoweredError:
    got = "a reader of some of its channels, or of its channels beside those of another layer"
    return NotLoweredError(tensor.layer, "whole-tensor", got)
