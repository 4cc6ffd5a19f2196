"""Intermediate representation of the native compiler: operations over quantized tensors and float tensors.

A reader sees a quantized tensor as a sequence of channel slices, so Split and Concat are no operations: they only
regroup slices. Shapes are (T, H, W, C), channels-last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgeact.export.cpu.native.refusals import Layer
from edgeact.runtime.native.program import BinaryOperator, Reduction, Size3, Size4, UnaryOperator, ZeroPoint

__all__ = [
    "BinaryOp",
    "ChannelSlice",
    "ConvOp",
    "DenseOp",
    "DequantizeOp",
    "FloatConvOp",
    "FloatOp",
    "FloatPoolOp",
    "FloatTensor",
    "FusedAdd",
    "InputOp",
    "Op",
    "PoolOp",
    "QuantizeOp",
    "QuantizedTensor",
    "ReduceOp",
    "Slices",
    "Tensor",
    "UnaryOp",
    "merge_slices",
    "single_channels",
]


@dataclass(eq=False)
class QuantizedTensor:
    """An 8-bit activation."""

    layer: Layer
    """The node that quantizes or computes the tensor."""
    size: Size3
    channels: int
    scale: float
    zero_point: ZeroPoint


@dataclass(eq=False)
class FloatTensor:
    """A float32 activation or constant."""

    size: Size4
    constant: npt.NDArray[np.float32] | None = None


Tensor: TypeAlias = QuantizedTensor | FloatTensor


@dataclass(frozen=True)
class ChannelSlice:
    """Channels [first, last) of a quantized tensor."""

    tensor: QuantizedTensor
    first: int
    last: int

    @property
    def count(self) -> int:
        """Number of channels."""
        return self.last - self.first


Slices: TypeAlias = tuple[ChannelSlice, ...]


def single_channels(slices: Iterable[ChannelSlice]) -> list[ChannelSlice]:
    """Split slices into one slice for each channel."""
    return [
        ChannelSlice(part.tensor, channel, channel + 1) for part in slices for channel in range(part.first, part.last)
    ]


def merge_slices(slices: Sequence[ChannelSlice]) -> Slices:
    """Merge neighboring slices of consecutive channels."""
    merged: list[ChannelSlice] = []
    for part in slices:
        if merged and merged[-1].tensor is part.tensor and merged[-1].last == part.first:
            merged[-1] = ChannelSlice(part.tensor, merged[-1].first, part.last)
        else:
            merged.append(part)
    return tuple(merged)


@dataclass(frozen=True, eq=False)
class FusedAdd:
    """An addition in a convolution's epilogue: outputs [first, last) plus addends, stored as channels of `to`."""

    first: int
    last: int
    to: Tensor
    channel: int
    """First channel of `to`."""
    relu: bool
    addends: Slices = ()
    """Each of (last - first) channels."""
    multiplicity: int = 1
    """How often the convolution's outputs themselves occur in the sum."""
    accumulate: bool = False
    """Add to what an earlier convolution has stored in `to`."""


@dataclass(eq=False)
class InputOp:
    """Quantize the clip, with space-to-depth in blocks of pixels."""

    to: QuantizedTensor
    channels: int
    size: Size3
    block: Size3


@dataclass(eq=False)
class ConvOp:
    """A convolution with int8 weights (outputs, kT, kH, kW, inputs), whose outputs are stored for every reader.

    With `groups`, outputs and input channels are divided into as many equal parts, and `inputs` is that of one part.
    """

    layer: Layer
    inputs: Slices
    weights: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]
    """Scale of the integer sums, (outputs,): weight scale times input scale."""
    bias: npt.NDArray[np.float32]
    stride: Size3
    padding: Size3
    out_size: Size3
    groups: int = 1
    relu: bool = False
    quantized: QuantizedTensor | None = None
    """All outputs quantized, if a layer reads them so."""
    unquantized: FloatTensor | None = None
    """All outputs in float, if a layer reads them so."""
    adds: list[FusedAdd] = field(default_factory=list)

    @property
    def is_stored(self) -> bool:
        """Whether any layer reads the outputs already."""
        return self.quantized is not None or self.unquantized is not None or bool(self.adds)


@dataclass(eq=False)
class PoolOp:
    """Maximum of each window."""

    inputs: Slices
    to: QuantizedTensor
    kernel: Size3
    stride: Size3
    padding: Size3


@dataclass(eq=False)
class QuantizeOp:
    """Quantize a float tensor."""

    source: FloatTensor
    to: QuantizedTensor


@dataclass(eq=False)
class DequantizeOp:
    """Dequantize slices into one float tensor."""

    slices: Slices
    to: FloatTensor


@dataclass(eq=False)
class BinaryOp:
    """Elementwise arithmetic with broadcasting."""

    operator: BinaryOperator
    a: FloatTensor
    b: FloatTensor
    to: FloatTensor


@dataclass(eq=False)
class UnaryOp:
    """Elementwise function."""

    operator: UnaryOperator
    source: FloatTensor
    to: FloatTensor


@dataclass(eq=False)
class ReduceOp:
    """Reduction over the marked axes of (T, H, W, C)."""

    operator: Reduction
    source: FloatTensor
    axes: tuple[bool, bool, bool, bool]
    to: FloatTensor


@dataclass(eq=False)
class DenseOp:
    """Matrix product with weights (outputs, inputs), and bias."""

    source: FloatTensor
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    to: FloatTensor


@dataclass(eq=False)
class FloatConvOp:
    """Float convolution at stride 1 and same size; weights (outputs, kT, kH, kW, inputs)."""

    source: FloatTensor
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    padding: Size3
    to: FloatTensor


@dataclass(eq=False)
class FloatPoolOp:
    """Mean of each window; padding counts as 0."""

    source: FloatTensor
    kernel: Size3
    stride: Size3
    padding: Size3
    to: FloatTensor


FloatOp: TypeAlias = BinaryOp | UnaryOp | ReduceOp | DenseOp | FloatConvOp | FloatPoolOp
Op: TypeAlias = InputOp | ConvOp | PoolOp | QuantizeOp | DequantizeOp | FloatOp
