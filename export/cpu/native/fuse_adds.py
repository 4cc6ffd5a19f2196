"""Fusion of residual additions into the epilogues of convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from edgeact.export.cpu.native.ir import (
    ChannelSlice,
    ConvOp,
    FusedAdd,
    QuantizedTensor,
    Slices,
    Tensor,
    merge_slices,
    single_channels,
)
from edgeact.export.cpu.native.refusals import UnmetRequirement
from edgeact.export.cpu.native.schedule import Schedule

__all__ = ["MAX_ADDENDS", "fuse_add"]

MAX_ADDENDS = 3
"""Inputs of an addition that one epilogue computes."""


def fuse_add(schedule: Schedule, convs: Sequence[ConvOp], addends: Sequence[Slices], to: Tensor, *, relu: bool) -> None:
    """Let convolutions compute the sum of `convs`, not quantized before, and of quantized `addends` into `to`.

    The last convolution among the inputs hosts the addition, when all other inputs are stored. A convolution in `convs`
    moves to the end of the schedule, so it is the last. Channels are fused in runs that are contiguous in every addend.
    Raises UnmetRequirement if no convolution can host the addition.
    """
    if len(convs) > 1 or len(convs) + len(addends) > MAX_ADDENDS:
        got = f"{len(convs) + len(addends)} inputs, {len(convs)} of them unquantized convolutions"
        raise UnmetRequirement("fused-add-inputs", got)
    conv = convs[0] if convs else None
    if conv is not None:
        if conv.is_stored:
            raise UnmetRequirement("unshared-conv", f"another reader of '{conv.layer.name}'")
        schedule.move_to_end(conv)
    channels = to.channels if isinstance(to, QuantizedTensor) else to.size[3]
    channel_lists = [single_channels(slices) for slices in addends]
    for first, last in _contiguous_runs(channels, channel_lists):
        slices = [merge_slices(each[first:last])[0] for each in channel_lists]
        add = FusedAdd(first, last, to, channel=first, relu=relu)
        if conv is not None:
            _host(schedule, conv, replace(add, addends=tuple(slices)))
        elif not _fuse_into_two_convs(schedule, slices, add):
            _fuse_into_last_conv(schedule, slices, add)


def _contiguous_runs(channels: int, channel_lists: Sequence[Sequence[ChannelSlice]]) -> list[tuple[int, int]]:
    """Return ranges [first, last) of channels that are consecutive channels of one tensor in every list."""
    edges = {0, channels}
    for each in channel_lists:
        for channel, (before, after) in enumerate(pairwise(each), start=1):
            if before.tensor is not after.tensor or before.last != after.first:
                edges.add(channel)
    return list(pairwise(sorted(edges)))


def _fuse_into_last_conv(schedule: Schedule, slices: Sequence[ChannelSlice], add: FusedAdd) -> None:
    convs = _producers(schedule, slices)
    if not convs:
        raise UnmetRequirement("conv-before-add", "no input that a convolution computes")
    _host_outputs(schedule, convs[-1], slices, add)


def _fuse_into_two_convs(schedule: Schedule, slices: Sequence[ChannelSlice], add: FusedAdd) -> bool:
    """Divide an addition of three different inputs between the last two convolutions; return whether it is possible.

    The first one stores its outputs plus the third input, the last one accumulates into these bytes. In MSL the last
    convolution has a small kernel, and its epilogue would take longer than its dot products. Accumulation saturates at
    255, so all inputs and the result must be unsigned.
    """
    is_signed = any(part.tensor.zero_point for part in slices)
    if not isinstance(add.to, QuantizedTensor) or add.to.zero_point or is_signed or len(set(slices)) < MAX_ADDENDS:
        return False
    convs = _producers(schedule, slices)
    if len(convs) < 2:
        return False
    first, last = convs[-2:]
    rest = [part for part in slices if part.tensor not in (first.quantized, last.quantized)]
    if not all(schedule.is_written_before(part.tensor, first) for part in rest):
        return False
    if not all(_has_equal_slices(conv, slices) for conv in (first, last)):
        return False
    _host_outputs(schedule, first, [part for part in slices if part.tensor is not last.quantized], add)
    _host_outputs(
        schedule, last, [part for part in slices if part.tensor is last.quantized], replace(add, accumulate=True)
    )
    return True


def _producers(schedule: Schedule, slices: Sequence[ChannelSlice]) -> list[ConvOp]:
    """Return the convolutions whose plain outputs are among the slices, in program order."""
    convs = {conv for part in slices if (conv := schedule.conv_of(part.tensor)) is not None}
    return sorted(convs, key=schedule.position)


def _has_equal_slices(conv: ConvOp, slices: Sequence[ChannelSlice]) -> bool:
    return len({part for part in slices if part.tensor is conv.quantized}) == 1


def _host_outputs(schedule: Schedule, conv: ConvOp, slices: Sequence[ChannelSlice], add: FusedAdd) -> None:
    """Fuse an addition that has quantized outputs of `conv` among its inputs: the outputs are added unquantized."""
    outputs = [part for part in slices if part.tensor is conv.quantized]
    rest = tuple(part for part in slices if part.tensor is not conv.quantized)
    _require_stored(schedule, conv, rest)
    if not _has_equal_slices(conv, slices):
        raise UnmetRequirement("aligned-channels", f"different channels of '{conv.layer.name}'")
    first, last = outputs[0].first, outputs[0].last
    fused = replace(add, first=first, last=last, addends=rest, multiplicity=len(outputs))
    schedule.add_fused(conv, fused)


def _host(schedule: Schedule, conv: ConvOp, add: FusedAdd) -> None:
    _require_stored(schedule, conv, add.addends)
    schedule.add_fused(conv, add)


def _require_stored(schedule: Schedule, conv: ConvOp, addends: Slices) -> None:
    for part in addends:
        if not schedule.is_written_before(part.tensor, conv):
            got = f"input '{part.tensor.layer.name}', computed after '{conv.layer.name}'"
            raise UnmetRequirement("conv-before-add", got)
