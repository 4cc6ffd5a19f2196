"""Sums of features: no operations of their own, convolutions add up while they store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from edgeact.errors import ConversionError
from edgeact.export.cpu.native.ir import Array, ConvOp, Op, Piece, Sum, Value, joined, singles

__all__ = ["add_up"]


def add_up(
    ops: list[Op], raw: Sequence[ConvOp], features: Sequence[Sequence[Piece]], to: Value | Array, relu: bool
) -> None:
    """Have the convolutions among `ops` store the sum of `raw`, unrounded, and of `features` to `to`, by channels.

    The last of those that it adds up does so, when everything else is there: `raw` is moved to the end for that.
    Raises ConversionError where nothing can add it up.
    """
    name = to.name if isinstance(to, Value) else "a sum in float"
    if len(raw) > 1 or len(raw) + len(features) > 3:
        raise ConversionError(f"the native engine adds up one convolution and two features at most, not '{name}'")
    for op in raw:
        if op.value is not None or op.array is not None or op.sums:
            raise ConversionError(f"the native engine cannot add '{op.name}' unrounded and use it elsewhere, too")
        ops.remove(op)
        ops.append(op)
    channels = to.channels if isinstance(to, Value) else to.size[3]
    terms = [singles(one) for one in features]
    for first, last in _runs(channels, terms):
        parts = [joined(one[first:last])[0] for one in terms]
        _store_sum(ops, raw, parts, Sum(first, last, to, first, 1, (), relu))


def _store_sum(ops: Sequence[Op], raw: Sequence[ConvOp], parts: Sequence[Piece], total: Sum) -> None:
    makers = {id(op.value): op for op in ops if isinstance(op, ConvOp) and op.value is not None}
    computed = list(raw) or [makers[id(part.value)] for part in parts if id(part.value) in makers]
    op = max(computed, key=ops.index, default=None)
    own = [part for part in parts if op is not None and part.value is op.value and not raw]
    rest = [part for part in parts if part not in own]
    if op is None or ops.index(op) <= max((_written(ops, part.value) for part in rest), default=-1):
        raise ConversionError("the native engine adds to what a convolution makes, and only while it makes it")
    if not raw and _add_in_turn(ops, parts, makers, total):
        return
    if any(part != own[0] for part in own):
        raise ConversionError(f"the native engine does not add channels of '{op.name}' to others of it")
    first, width = own[0].first if own else total.first, total.last - total.first
    times = float(max(len(own), 1))
    op.sums.append(Sum(first, first + width, total.to, total.at, times, tuple(rest), total.relu))


def _add_in_turn(ops: Sequence[Op], parts: Sequence[Piece], makers: Mapping[int, ConvOp], total: Sum) -> bool:
    """Have two convolutions add in turn, where the last one would have two summands; whether that was possible.

    The first one stores its outputs with the other summand, and the last one, which in MSL has a small kernel and
    little time beside its products, adds to these bytes. Nothing may be negative: bytes are added up to 255.
    """
    if isinstance(total.to, Array) or total.to.zero or any(part.value.zero for part in parts):
        return False
    order = sorted({makers[id(part.value)] for part in parts if id(part.value) in makers}, key=ops.index)
    if len(order) < 2 or len(set(parts)) < 3:
        return False
    first, last = order[-2:]
    rest = tuple(part for part in parts if part.value not in (first.value, last.value))
    if ops.index(first) <= max((_written(ops, part.value) for part in rest), default=-1):
        return False
    width, stores = total.last - total.first, []
    for op, terms in ((first, rest), (last, ())):
        own = [part for part in parts if part.value is op.value]
        if any(part != own[0] for part in own):
            return False
        begin, times, onto = own[0].first, float(len(own)), op is last
        stores.append((op, Sum(begin, begin + width, total.to, total.at, times, terms, total.relu, onto)))
    for op, one in stores:
        op.sums.append(one)
    return True


def _written(ops: Sequence[Op], value: Value) -> int:
    """Place of the last operation that writes it."""
    return max(index for index, op in enumerate(ops) if value in _results(op))


def _results(op: Op) -> list[Value | Array | None]:
    if isinstance(op, ConvOp):
        return [op.value, *(one.to for one in op.sums)]
    return [op.to]


def _runs(channels: int, terms: Iterable[Sequence[Piece]]) -> list[tuple[int, int]]:
    """Ranges of channels in which every term goes on without a break."""
    cuts = {0, channels}
    for one in terms:
        for channel in range(1, channels):
            before, after = one[channel - 1], one[channel]
            if before.value is not after.value or before.last != after.first:
                cuts.add(channel)
    return list(pairwise(sorted(cuts)))
