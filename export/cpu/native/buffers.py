"""Where every value lies, and from that the program: a piece is written wherever it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from edgeact.errors import ConversionError
from edgeact.export.cpu.native.ir import (
    Array,
    ArrayOp,
    ConvOp,
    InputOp,
    Op,
    Piece,
    PoolOp,
    RestoreOp,
    RoundOp,
    Sum,
    Value,
    joined,
    singles,
)
from edgeact.runtime.native.program import (
    Binary,
    Conv,
    Dense,
    Features,
    Input,
    Pool,
    Program,
    Reduce,
    Restore,
    Round,
    SmallConv,
    Step,
    Store,
    Summand,
    Unary,
    join_tensors,
)

__all__ = ["place"]


@dataclass(frozen=True)
class _Place:
    """A piece that lies in features from `channel` on."""

    piece: Piece
    features: int
    channel: int


def place(ops: Sequence[Op], logits: Array) -> tuple[Program, bytes]:
    """The program of `ops`, which are in the order in which they run, and the file of its tensors."""
    return _Placing(ops).program(logits)


@dataclass
class _Placing:
    ops: Sequence[Op]
    features: list[Features] = field(default_factory=list)
    places: dict[int, list[_Place]] = field(default_factory=dict)
    """By the identity of the value: where pieces of it lie."""
    views: dict[tuple[Piece, ...], int] = field(default_factory=dict)
    arrays: list[Array] = field(default_factory=list)
    tensors: list[np.ndarray] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def program(self, logits: Array) -> tuple[Program, bytes]:
        for op in self.ops:
            self._demand(op)
        for op in self.ops:
            self._demand_read(op)
        for op in reversed(self.ops):  # what a pool hands on may come from another pool
            if isinstance(op, PoolOp):
                self._pools(op)
        for op in self.ops:
            self._emit(op)
        last = self._array(logits)
        constants = {
            index: self._tensor(array.constant) for index, array in enumerate(self.arrays) if array.constant is not None
        }
        refs, data = join_tensors(self.tensors)
        sizes = tuple(array.size for array in self.arrays)
        return Program(
            features=tuple(self.features),
            arrays=sizes,
            constants=constants,
            tensors=refs,
            steps=tuple(self.steps),
            logits=last,
        ), data

    def _demand(self, op: Op) -> None:
        """Features for what is read as a whole."""
        if isinstance(op, ConvOp | PoolOp):
            self._view(op.inputs)
        elif isinstance(op, InputOp | RoundOp):  # both write all channels of one value side by side
            self._view((Piece(op.to, 0, op.to.channels),))
        if isinstance(op, PoolOp):
            self._view((Piece(op.to, 0, op.to.channels),))

    def _demand_read(self, op: Op) -> None:
        """Features for what is read piece by piece and lies nowhere yet."""
        pieces: tuple[Piece, ...] = op.pieces if isinstance(op, RestoreOp) else ()
        if isinstance(op, ConvOp):
            pieces = tuple(piece for one in op.sums for piece in one.terms)
        for piece in pieces:
            for missing in self._missing(piece):
                self._view((missing,))

    def _view(self, pieces: tuple[Piece, ...]) -> int:
        pieces = joined(pieces)
        if pieces not in self.views:
            index, channel = len(self.features), 0
            first = pieces[0].value
            for piece in pieces:
                self.places.setdefault(id(piece.value), []).append(_Place(piece, index, channel))
                channel += piece.count
            self.features.append(Features(size=first.size, channels=channel, zero=first.zero))  # type: ignore[arg-type]
            self.views[pieces] = index
        return self.views[pieces]

    def _missing(self, piece: Piece) -> Iterator[Piece]:
        lies = np.zeros(piece.value.channels, bool)
        for one in self.places.get(id(piece.value), []):
            lies[one.piece.first : one.piece.last] = True
        lacking = [channel for channel in range(piece.first, piece.last) if not lies[channel]]
        yield from joined([Piece(piece.value, channel, channel + 1) for channel in lacking])

    def _located(self, piece: Piece) -> list[_Place]:
        """Places that together hold the piece, each with what it holds of it."""
        found, first = [], piece.first
        while first < piece.last:
            options = [one for one in self.places[id(piece.value)] if one.piece.first <= first < one.piece.last]
            best = max(options, key=lambda one: one.piece.last)
            last = min(best.piece.last, piece.last)
            channel = best.channel + first - best.piece.first
            found.append(_Place(Piece(piece.value, first, last), best.features, channel))
            first = last
        return found

    def _array(self, array: Array) -> int:
        for index, one in enumerate(self.arrays):
            if one is array:
                return index
        self.arrays.append(array)
        return len(self.arrays) - 1

    def _tensor(self, values: np.ndarray) -> int:
        self.tensors.append(np.ascontiguousarray(values))
        return len(self.tensors) - 1

    def _emit(self, op: Op) -> None:
        match op:
            case InputOp():
                (lies,) = self._wholes(op.to)
                if lies.channel or self.features[lies.features].channels != op.to.channels:
                    raise _cut(op.to)
                step = Input(to=lies.features, channels=op.channels, size=op.size, block=op.block, step=op.to.step)
                self.steps.append(step)
            case ConvOp():
                self.steps.append(self._conv(op))
            case PoolOp():
                self.steps += self._pools(op)
            case RoundOp():
                array = self._array(op.array)
                for lies in self._wholes(op.to):
                    self.steps.append(Round(array=array, to=lies.features, channel=lies.channel, step=op.to.step))
            case RestoreOp():
                self.steps += self._restores(op)
            case ArrayOp():
                self.steps.append(self._arithmetic(op))

    def _wholes(self, value: Value) -> list[_Place]:
        """Where it lies, if that is everywhere as a whole: only convolutions write channels one by one."""
        places = self.places[id(value)]
        if any(one.piece.count != value.channels for one in places):
            raise _cut(value)
        return places

    def _pools(self, op: PoolOp) -> list[Pool]:
        """One pool for each way in which its result is read, each of what it reads in that order."""
        inputs = singles(op.inputs)
        steps = []
        for pieces, to in list(self.views.items()):
            own = [piece.value is op.to for piece in pieces]
            if not any(own):
                continue
            if not all(own):
                raise _cut(op.to)
            source = self._view(tuple(one for piece in pieces for one in inputs[piece.first : piece.last]))
            steps.append(Pool(features=source, to=to, kernel=op.kernel, stride=op.stride, pad=op.pad))
        return steps

    def _conv(self, op: ConvOp) -> Conv:
        stores = []
        if op.value is not None:
            for one in self.places.get(id(op.value), []):
                first, last = one.piece.first, one.piece.last
                stores.append(self._store(op, Sum(first, last, op.value, first, 1, (), False), one))
        if op.array is not None:
            stores.append(self._float_store(op, Sum(0, len(op.weights), op.array, 0, 1, (), False)))
        for total in op.sums:
            stores += self._sum_stores(op, total)
        return Conv(
            features=self._view(op.inputs),
            weights=self._tensor(op.weights),
            stride=op.stride,
            pad=op.pad,
            out=op.out,
            stores=tuple(self._merged(stores)),
        )

    def _merged(self, stores: list[Store]) -> list[Store]:
        """The same with neighbours that only differ in their outputs as one: fewer, wider stores."""
        done: list[Store] = []
        for store in sorted(stores, key=lambda one: (one.is_float, one.to, one.first)):
            if done and _continues(done[-1], store):
                joint = done.pop()
                scale = self._tensor(np.concatenate([self.tensors[one.scale] for one in (joint, store)]))
                bias = self._tensor(np.concatenate([self.tensors[one.bias] for one in (joint, store)]))
                store = joint.model_copy(update={"last": store.last, "scale": scale, "bias": bias})
            done.append(store)
        return done

    def _sum_stores(self, op: ConvOp, total: Sum) -> Iterator[Store]:
        """The stores of a sum, cut wherever one of its terms or its result goes on elsewhere."""
        count = total.last - total.first
        located = [[(one, one.piece.first - term.first) for one in self._located(term)] for term in total.terms]
        results: list[_Place | None] = [None]
        if isinstance(total.to, Value):
            results = list(self.places.get(id(total.to), []))
        for result in results:
            low, high = 0, count
            if result is not None:
                low, high = max(0, result.piece.first - total.at), min(count, result.piece.last - total.at)
            cuts = {low, high, *(start for places in located for _, start in places if low < start < high)}
            edges = sorted(cuts) if low < high else []
            for first, last in pairwise(edges):
                terms = tuple(
                    Piece(one.piece.value, one.piece.first + first - start, one.piece.first + last - start)
                    for places in located
                    for one, start in places
                    if start <= first < start + one.piece.count
                )
                begin, end, at = total.first + first, total.first + last, total.at + first
                part = Sum(begin, end, total.to, at, total.times, terms, total.relu, total.onto)
                yield self._float_store(op, part) if result is None else self._store(op, part, result)

    def _store(self, op: ConvOp, part: Sum, result: _Place) -> Store:
        """Rounded, into the features of `result`."""
        assert isinstance(part.to, Value)
        channel = result.channel + part.at - result.piece.first
        return self._made(op, part, part.to.step, (result.features, channel, False))

    def _float_store(self, op: ConvOp, part: Sum) -> Store:
        assert isinstance(part.to, Array)
        return self._made(op, part, 1.0, (self._array(part.to), part.at, True))

    def _made(self, op: ConvOp, part: Sum, step: float, to: tuple[int, int, bool]) -> Store:
        factor = part.times / step
        summands = []
        for piece in part.terms:
            (one,) = self._located(piece)
            summands.append(Summand(features=one.features, channel=one.channel, scale=piece.value.step / step))
        return Store(
            first=part.first,
            last=part.last,
            to=to[0],
            channel=to[1],
            is_float=to[2],
            relu=op.relu,
            relu_sum=part.relu,
            onto=part.onto,
            summands=tuple(summands),
            scale=self._tensor((op.scale[part.first : part.last] * factor).astype(np.float32)),
            bias=self._tensor((op.bias[part.first : part.last] * factor).astype(np.float32)),
        )

    def _restores(self, op: RestoreOp) -> Iterator[Restore]:
        channel, to = 0, self._array(op.to)
        for piece in op.pieces:
            for one in self._located(piece):
                yield Restore(
                    features=one.features,
                    channel=one.channel,
                    channels=one.piece.count,
                    step=piece.value.step,
                    to=to,
                    to_channel=channel,
                )
                channel += one.piece.count

    def _arithmetic(self, op: ArrayOp) -> Step:
        inputs, to = [self._array(array) for array in op.inputs], self._array(op.to)
        if op.kind == "binary":
            return Binary(op=op.op, a=inputs[0], b=inputs[1], to=to)  # type: ignore[arg-type]
        if op.kind == "unary":
            return Unary(op=op.op, array=inputs[0], to=to)  # type: ignore[arg-type]
        if op.kind == "reduce":
            return Reduce(op=op.op, array=inputs[0], over=op.over, to=to)  # type: ignore[arg-type]
        assert op.part is not None
        weights, bias = self._tensor(op.part.weights), self._tensor(op.part.bias)
        if op.kind == "dense":
            return Dense(array=inputs[0], weights=weights, bias=bias, to=to)
        return SmallConv(array=inputs[0], weights=weights, bias=bias, pad=op.part.pad, to=to)


def _cut(value: Value) -> ConversionError:
    return ConversionError(f"the native engine writes '{value.name}' as a whole only, and parts of it are read")


def _continues(before: Store, store: Store) -> bool:
    """Whether `store` goes on where `before` ends, in outputs, places and summands."""
    count = before.last - before.first
    moved = before.model_copy(
        update={
            "first": store.first,
            "last": store.last,
            "channel": before.channel + count,
            "summands": tuple(one.model_copy(update={"channel": one.channel + count}) for one in before.summands),
            "scale": store.scale,
            "bias": store.bias,
        }
    )
    return before.last == store.first and moved == store
