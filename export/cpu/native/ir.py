"""What stands between an ONNX graph and a native program: values, and operations over pieces of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeact.runtime.native.program import Size3, Size4

__all__ = [
    "Array",
    "ArrayOp",
    "ConvOp",
    "FloatPart",
    "InputOp",
    "Op",
    "Piece",
    "PoolOp",
    "RestoreOp",
    "RoundOp",
    "Sum",
    "Value",
    "joined",
    "singles",
]


@dataclass(eq=False)
class Value:
    """8-bit features that one operation makes."""

    name: str
    size: Size3
    channels: int
    step: float
    zero: int


@dataclass(frozen=True)
class Piece:
    """Channels [first, last) of a value."""

    value: Value
    first: int
    last: int

    @property
    def count(self) -> int:
        """How many channels."""
        return self.last - self.first


def singles(pieces: Iterable[Piece]) -> list[Piece]:
    """The same channels, one piece each."""
    return [Piece(piece.value, channel, channel + 1) for piece in pieces for channel in range(piece.first, piece.last)]


def joined(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """The same channels in as few pieces as can be."""
    found: list[Piece] = []
    for piece in pieces:
        if found and found[-1].value is piece.value and found[-1].last == piece.first:
            found[-1] = Piece(piece.value, found[-1].first, piece.last)
        else:
            found.append(piece)
    return tuple(found)


@dataclass(eq=False)
class Array:
    """Float features (T, H, W, C); with `constant` they are known."""

    size: Size4
    constant: npt.NDArray[np.float32] | None = None


@dataclass(eq=False)
class Sum:
    """Output channels [first, last) of a convolution, with what is added to them, as channels of `to` from `at` on."""

    first: int
    last: int
    to: Value | Array
    at: int
    times: float
    """How often the outputs themselves are counted."""
    terms: tuple[Piece, ...]
    """Each as wide as the range."""
    relu: bool
    onto: bool = False
    """Add to what earlier convolutions have stored there."""


@dataclass(eq=False)
class InputOp:
    """The clip, rounded."""

    to: Value
    channels: int
    size: Size3
    block: Size3


@dataclass(eq=False)
class ConvOp:
    """A convolution in INT8, weights int8 (outputs, kT, kH, kW, inputs), and what becomes of its outputs."""

    name: str
    inputs: tuple[Piece, ...]
    weights: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]
    """Of the integer sums, (outputs,): they times this are the real values."""
    bias: npt.NDArray[np.float32]
    stride: Size3
    pad: Size3
    out: Size3
    relu: bool
    value: Value | None = None
    """What all outputs are rounded to, where anybody reads that."""
    array: Array | None = None
    """What all outputs are in float, where anybody reads that."""
    sums: list[Sum] = field(default_factory=list)


@dataclass(eq=False)
class PoolOp:
    """The largest of each window."""

    inputs: tuple[Piece, ...]
    to: Value
    kernel: Size3
    stride: Size3
    pad: Size3


@dataclass(eq=False)
class RoundOp:
    """An array, rounded."""

    array: Array
    to: Value


@dataclass(eq=False)
class RestoreOp:
    """Pieces as one array."""

    pieces: tuple[Piece, ...]
    to: Array


@dataclass(frozen=True)
class FloatPart:
    """A float layer with weights: 'dense' or 'small-conv'."""

    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    pad: Size3 = (0, 0, 0)


@dataclass(eq=False)
class ArrayOp:
    """Arithmetic on arrays: kind and op as the program has them."""

    kind: str
    op: str
    inputs: tuple[Array, ...]
    to: Array
    over: tuple[bool, bool, bool, bool] = (False, False, False, False)
    part: FloatPart | None = None


Op = InputOp | ConvOp | PoolOp | RoundOp | RestoreOp | ArrayOp
