"""A native program: the network as steps over features, independent of the processor and of how memory is laid out.

JSON beside one file of tensors. Features are 8-bit (T, H, W, C) with a zero point of 0 or 128, arrays are float32
(T, H, W, C); steps name both by their index. A convolution writes its outputs channel by channel wherever they are
needed next, together with what is added to them there, so splits, concatenations and sums are no steps of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Binary",
    "Conv",
    "Dense",
    "Features",
    "Input",
    "Pool",
    "Program",
    "Reduce",
    "Restore",
    "Round",
    "SmallConv",
    "Step",
    "Store",
    "Summand",
    "TensorRef",
    "Tensors",
    "Unary",
    "join_tensors",
]

Index = Annotated[int, Field(ge=0, lt=1 << 30)]  # sums of two fit the engine's 32 bits
Count = Annotated[int, Field(ge=1, lt=1 << 30)]
Real = Annotated[float, Field(gt=-1e37, lt=1e37)]  # within float32
StepSize = Annotated[float, Field(gt=1e-37, lt=1e37)]  # and so is its reciprocal
Size3 = tuple[Index, Index, Index]
Size4 = tuple[Index, Index, Index, Index]
Tensors = list[npt.NDArray[np.generic]]

_ALIGNMENT = 64


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class TensorRef(_Part):
    """Where a tensor lies in the file of tensors."""

    offset: int = Field(ge=0, lt=1 << 62, multiple_of=_ALIGNMENT)
    dtype: Literal["int8", "float32"]
    shape: tuple[Index, ...]


class Features(_Part):
    """8-bit features (T, H, W, C)."""

    size: Size3
    channels: Count
    zero: Literal[0, 128]


class Input(_Part):
    """The clip, float32 (channels, T, H, W), rounded; a block of its pixels becomes the channels of one."""

    kind: Literal["input"] = "input"
    to: Index
    channels: Count
    size: Size3
    block: Size3
    step: StepSize


class Summand(_Part):
    """What is added to a convolution's outputs: as many channels of `features` from `channel` on, times `scale`."""

    features: Index
    channel: Index
    scale: Real


class Store(_Part):
    """Output channels [first, last) of a convolution: relu(sum * scale + bias) + summands, relu, to features or arrays.

    Scale and bias are those of the outputs; what goes to features is in their steps.
    """

    first: Index
    last: Count
    to: Index
    channel: Index
    is_float: bool = False
    relu: bool
    relu_sum: bool = False
    onto: bool = Field(default=False, description="add to the features that lie there, up to 255; not in float")
    summands: tuple[Summand, ...] = Field(default=(), max_length=2)
    scale: Index
    bias: Index


class Conv(_Part):
    """A convolution of channels [channel, channel + inputs) by int8 weights (outputs, kT, kH, kW, inputs)."""

    kind: Literal["conv"] = "conv"
    features: Index
    channel: Index = 0
    weights: Index
    stride: Size3
    pad: Size3 = Field(description="before the first value; what is missing behind the last is zero as well")
    out: Size3
    stores: tuple[Store, ...] = Field(min_length=1)


class Pool(_Part):
    """The largest value of each window, of what lies inside the features."""

    kind: Literal["pool"] = "pool"
    features: Index
    to: Index
    kernel: Size3
    stride: Size3
    pad: Size3


class Binary(_Part):
    """Two arrays, value by value; a size of 1 is repeated."""

    kind: Literal["binary"] = "binary"
    op: Literal["mul", "add", "sub", "div", "max"]
    a: Index
    b: Index
    to: Index


class Unary(_Part):
    """Every value of an array by itself."""

    kind: Literal["unary"] = "unary"
    op: Literal["relu", "sigmoid", "tanh", "sqrt", "exp", "copy"]
    array: Index
    to: Index


class Reduce(_Part):
    """An array over some of its axes, which keep a size of 1."""

    kind: Literal["reduce"] = "reduce"
    op: Literal["sum", "mean", "max"]
    array: Index
    over: tuple[bool, bool, bool, bool]
    to: Index


class Dense(_Part):
    """A product with a float32 matrix (outputs, inputs), and a bias."""

    kind: Literal["dense"] = "dense"
    array: Index
    weights: Index
    bias: Index
    to: Index


class SmallConv(_Part):
    """A float convolution at stride 1 that keeps the size; weights (outputs, kT, kH, kW, inputs)."""

    kind: Literal["small-conv"] = "small-conv"
    array: Index
    weights: Index
    bias: Index
    pad: Size3
    to: Index


class Round(_Part):
    """An array to channels [channel, ...) of features, in steps of `step`."""

    kind: Literal["round"] = "round"
    array: Index
    to: Index
    channel: Index = 0
    step: StepSize


class Restore(_Part):
    """Channels [channel, channel + channels) of features, times `step`, to channels [to_channel, ...) of an array."""

    kind: Literal["restore"] = "restore"
    features: Index
    channel: Index
    channels: Count
    step: StepSize
    to: Index
    to_channel: Index = 0


Step = Annotated[
    Input | Conv | Pool | Binary | Unary | Reduce | Dense | SmallConv | Round | Restore, Field(discriminator="kind")
]


class Program(_Part):
    """A whole network; the first step takes the clip, the logits are array `logits`."""

    format_version: Literal["1"] = "1"
    features: tuple[Features, ...]
    arrays: tuple[Size4, ...]
    constants: dict[Index, Index] = Field(default_factory=dict, description="array -> tensor that it holds")
    tensors: tuple[TensorRef, ...]
    steps: tuple[Step, ...] = Field(min_length=1)
    logits: Index


def join_tensors(tensors: Sequence[npt.NDArray[np.generic]]) -> tuple[tuple[TensorRef, ...], bytes]:
    """Tensors (int8 or float32) in one file, and where each of them lies."""
    refs, parts, offset = [], [], 0
    for tensor in tensors:
        data = np.ascontiguousarray(tensor).tobytes()
        refs.append(TensorRef(offset=offset, dtype=str(tensor.dtype), shape=tensor.shape))  # type: ignore[arg-type]
        padded = data + bytes(-len(data) % _ALIGNMENT)
        parts.append(padded)
        offset += len(padded)
    return tuple(refs), b"".join(parts)
