"""The native program: a network as instructions over buffers, independent of the processor and of memory layout.

A program is JSON beside one file of tensors. Activations are quantized buffers, 8-bit (T, H, W, C) with a zero point of
0 or 128, or float arrays, float32 (T, H, W, C); instructions name both by index. The epilogue of a convolution stores
every output channel into the buffers of its consumers and adds residuals there, so Split, Concat and Add need no
instruction.

The JSON keys are format version 1 and stay as they are; an attribute with another name states its key as alias.
`OPCODES`, `BINARY_OPERATORS`, `UNARY_OPERATORS` and `REDUCTIONS` have the order of the enumerations in csrc/engine.h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from edgeact.bundle.canonical import encode
from edgeact.schema import StrictModel

__all__ = [
    "BINARY_OPERATORS",
    "OPCODES",
    "REDUCTIONS",
    "UNARY_OPERATORS",
    "Binary",
    "BinaryOperator",
    "Buffer",
    "Conv",
    "Dense",
    "Dequantize",
    "Epilogue",
    "FloatConv",
    "FloatPool",
    "Input",
    "Instruction",
    "Pool",
    "Program",
    "Quantize",
    "Reduce",
    "Reduction",
    "Size3",
    "Size4",
    "Summand",
    "TensorRef",
    "Tensors",
    "Unary",
    "UnaryOperator",
    "ZeroPoint",
    "join_tensors",
]

Index = Annotated[int, Field(ge=0, lt=1 << 30)]  # the sum of two fits into the engine's 32 bits
Count = Annotated[int, Field(ge=1, lt=1 << 30)]
Factor = Annotated[float, Field(gt=-1e37, lt=1e37)]  # within float32
Scale = Annotated[float, Field(gt=1e-37, lt=1e37)]  # within float32, as is the reciprocal
Size3 = tuple[Index, Index, Index]
Size4 = tuple[Index, Index, Index, Index]
ZeroPoint = Literal[0, 128]
BinaryOperator = Literal["mul", "add", "sub", "div", "max"]
UnaryOperator = Literal["relu", "sigmoid", "tanh", "sqrt", "exp", "copy"]
Reduction = Literal["sum", "mean", "max"]
Tensors = list[npt.NDArray[np.generic]]

BINARY_OPERATORS: tuple[BinaryOperator, ...] = get_args(BinaryOperator)
UNARY_OPERATORS: tuple[UnaryOperator, ...] = get_args(UnaryOperator)
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)

_ALIGNMENT_BYTES = 64


def _key(name: str) -> object:
    """Read and write the field under `name` in JSON."""
    return Field(validation_alias=name, serialization_alias=name)


class _ProgramPart(StrictModel):
    """A part of a program; its fields have Python names here and the keys of format version 1 in JSON."""

    model_config = ConfigDict(populate_by_name=True)


class TensorRef(_ProgramPart):
    """Position of a tensor in the file of tensors; `offset` in bytes."""

    offset: int = Field(ge=0, lt=1 << 62, multiple_of=_ALIGNMENT_BYTES)
    dtype: Literal["int8", "float32"]
    shape: tuple[Index, ...]


class Buffer(_ProgramPart):
    """A quantized activation: 8-bit (T, H, W, C), channels-last; `size` is (T, H, W)."""

    size: Size3
    channels: Count
    zero_point: Annotated[ZeroPoint, _key("zero")]


class Input(_ProgramPart):
    """Quantize the clip, float32 (channels, T, H, W); space-to-depth turns each block of pixels into channels."""

    kind: Literal["input"] = "input"
    to: Index
    channels: Count
    size: Size3
    block: Size3
    scale: Annotated[Scale, _key("step")]


class Summand(_ProgramPart):
    """A residual that an epilogue adds: channels of `buffer` from `channel` on, dequantized by `scale`."""

    buffer: Annotated[Index, _key("features")]
    channel: Index
    scale: Factor


class Epilogue(_ProgramPart):
    """Store output channels [first, last) of a convolution: relu(relu(sum * scale + bias) + summands).

    `scale` and `bias` are tensors, float32 (last - first,). The destination is a buffer, in whose quantization scale
    both are expressed, or with `is_float` an array.
    """

    first: Index
    last: Count
    to: Index
    channel: Index
    is_float: bool = False
    relu: bool
    relu_after_sum: Annotated[bool, _key("relu_sum")] = False
    accumulate: Annotated[bool, _key("onto")] = False
    """Add to the bytes in the buffer, saturating at 255; not for arrays."""
    summands: tuple[Summand, ...] = Field(default=(), max_length=2)
    scale: Index
    bias: Index


class Conv(_ProgramPart):
    """Convolve channels [channel, channel + inputs) of a buffer with int8 weights (outputs, kT, kH, kW, inputs)."""

    kind: Literal["conv"] = "conv"
    buffer: Annotated[Index, _key("features")]
    channel: Index = 0
    weights: Index
    stride: Size3
    padding: Annotated[Size3, _key("pad")]
    """Zeros before the first position of each axis; reads past the last position are zero as well."""
    out_size: Annotated[Size3, _key("out")]
    epilogues: Annotated[tuple[Epilogue, ...], _key("stores")] = Field(min_length=1)


class Pool(_ProgramPart):
    """Take the maximum of each window; padding is ignored."""

    kind: Literal["pool"] = "pool"
    buffer: Annotated[Index, _key("features")]
    to: Index
    kernel: Size3
    stride: Size3
    padding: Annotated[Size3, _key("pad")]


class Binary(_ProgramPart):
    """Combine two arrays elementwise; an axis of size 1 is broadcast."""

    kind: Literal["binary"] = "binary"
    op: BinaryOperator
    a: Index
    b: Index
    to: Index


class Unary(_ProgramPart):
    """Map every element of an array."""

    kind: Literal["unary"] = "unary"
    op: UnaryOperator
    array: Index
    to: Index


class Reduce(_ProgramPart):
    """Reduce an array over the marked axes of (T, H, W, C), which keep size 1."""

    kind: Literal["reduce"] = "reduce"
    op: Reduction
    array: Index
    axes: Annotated[tuple[bool, bool, bool, bool], _key("over")]
    to: Index


class Dense(_ProgramPart):
    """Multiply by a float32 matrix (outputs, inputs) and add a bias."""

    kind: Literal["dense"] = "dense"
    array: Index
    weights: Index
    bias: Index
    to: Index


class FloatConv(_ProgramPart):
    """Convolve an array in float32 at stride 1 and same size; weights (outputs, kT, kH, kW, inputs)."""

    kind: Literal["small-conv"] = "small-conv"
    array: Index
    weights: Index
    bias: Index
    padding: Annotated[Size3, _key("pad")]
    to: Index


class Quantize(_ProgramPart):
    """Quantize an array into channels [channel, ...) of a buffer."""

    kind: Literal["round"] = "round"
    array: Index
    to: Index
    channel: Index = 0
    scale: Annotated[Scale, _key("step")]


class Dequantize(_ProgramPart):
    """Dequantize channels [channel, channel + channels) of a buffer into channels [to_channel, ...) of an array."""

    kind: Literal["restore"] = "restore"
    buffer: Annotated[Index, _key("features")]
    channel: Index
    channels: Count
    scale: Annotated[Scale, _key("step")]
    to: Index
    to_channel: Index = 0


class FloatPool(_ProgramPart):
    """Take the mean of each window of an array; padding counts as 0."""

    kind: Literal["float-pool"] = "float-pool"
    array: Index
    kernel: Size3
    stride: Size3
    padding: Annotated[Size3, _key("pad")]
    to: Index


_AnyInstruction: TypeAlias = (
    Input | Conv | Pool | Binary | Unary | Reduce | Dense | FloatConv | Quantize | Dequantize | FloatPool
)
Instruction = Annotated[_AnyInstruction, Field(discriminator="kind")]

OPCODES: tuple[str, ...] = tuple(instruction.model_fields["kind"].default for instruction in get_args(_AnyInstruction))


class Program(_ProgramPart):
    """A whole network. The first instruction reads the clip; the logits are array `logits`."""

    format_version: Literal["1"] = "1"
    buffers: Annotated[tuple[Buffer, ...], _key("features")]
    arrays: tuple[Size4, ...]
    constants: Mapping[Index, Index] = Field(default_factory=dict, description="array -> tensor with its values")
    tensors: tuple[TensorRef, ...]
    instructions: Annotated[tuple[Instruction, ...], _key("steps")] = Field(min_length=1)
    logits: Index

    def to_json(self) -> bytes:
        """Encode the program as canonical JSON; `reading.read_program` is the inverse."""
        return encode(self.model_dump(mode="json", by_alias=True))


def join_tensors(tensors: Sequence[npt.NDArray[np.generic]]) -> tuple[tuple[TensorRef, ...], bytes]:
    """Concatenate tensors (int8 or float32) into one file, aligned to 64 bytes, and return their positions in it.

    Raises ValueError for any other dtype.
    """
    refs, parts, offset = [], [], 0
    for tensor in tensors:
        data = np.ascontiguousarray(tensor).tobytes()
        refs.append(TensorRef.model_validate({"offset": offset, "dtype": str(tensor.dtype), "shape": tensor.shape}))
        padded = data + bytes(-len(data) % _ALIGNMENT_BYTES)
        parts.append(padded)
        offset += len(padded)
    return tuple(refs), b"".join(parts)
