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
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeact.errors import ModelError

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
    "read_program",
]

Size3 = tuple[int, int, int]
Size4 = tuple[int, int, int, int]
Tensors = list[npt.NDArray[np.generic]]
Index = Annotated[int, Field(ge=0)]

_ALIGNMENT = 64
_LARGEST = 1 << 31  # bytes of one buffer


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class TensorRef(_Part):
    """Where a tensor lies in the file of tensors."""

    offset: int = Field(ge=0, multiple_of=_ALIGNMENT)
    dtype: Literal["int8", "float32"]
    shape: tuple[Index, ...]


class Features(_Part):
    """8-bit features (T, H, W, C)."""

    size: Size3
    channels: int = Field(ge=1)
    zero: Literal[0, 128]


class Input(_Part):
    """The clip, float32 (channels, T, H, W), rounded; a block of its pixels becomes the channels of one."""

    kind: Literal["input"] = "input"
    to: Index
    channels: int = Field(ge=1)
    size: Size3
    block: Size3
    step: float = Field(gt=0)


class Summand(_Part):
    """What is added to a convolution's outputs: as many channels of `features` from `channel` on, times `scale`."""

    features: Index
    channel: Index
    scale: float


class Store(_Part):
    """Output channels [first, last) of a convolution: relu(sum * scale + bias) + summands, relu, to features or arrays.

    Scale and bias are those of the outputs; what goes to features is in their steps.
    """

    first: Index
    last: int = Field(ge=1)
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
    step: float = Field(gt=0)


class Restore(_Part):
    """Channels [channel, channel + channels) of features, times `step`, to channels [to_channel, ...) of an array."""

    kind: Literal["restore"] = "restore"
    features: Index
    channel: Index
    channels: int = Field(ge=1)
    step: float = Field(gt=0)
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
    constants: dict[int, Index] = Field(default_factory=dict, description="array -> tensor that it holds")
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


def read_program(graph: bytes, weights: bytes) -> tuple[Program, Tensors]:
    """The program and its tensors, checked: no step reaches beyond what it names. Raises ModelError."""
    try:
        program = Program.model_validate_json(graph)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"not a native program of this version: {where}: {first['msg']}; export it again") from error
    try:
        tensors = [_tensor(ref, weights) for ref in program.tensors]
        _check(program, tensors)
    except (IndexError, ValueError) as error:
        raise ModelError(f"the native program does not fit its tensors: {error}; export it again") from error
    return program, tensors


def _tensor(ref: TensorRef, weights: bytes) -> npt.NDArray[np.generic]:
    count = int(np.prod(ref.shape, dtype=np.int64))
    tensor = np.frombuffer(weights, ref.dtype, count, ref.offset).reshape(ref.shape)
    if ref.dtype == "float32" and not np.isfinite(tensor).all():
        raise ValueError("a tensor is not finite")
    return tensor


def _check(program: Program, tensors: Tensors) -> None:
    for features in program.features:
        _require(min(features.size) > 0 and np.prod(features.size) * features.channels < _LARGEST, "features")
    for size in program.arrays:
        _require(min(size) > 0 and np.prod(size) * 4 < _LARGEST, "an array")
    for array, tensor in program.constants.items():
        _require(tensors[tensor].size == np.prod(program.arrays[array]), f"constant array {array}")
    _require(isinstance(program.steps[0], Input), "the first step")
    _require(sum(isinstance(step, Input) for step in program.steps) == 1, "the number of inputs")
    _require(np.prod(program.arrays[program.logits]) == program.arrays[program.logits][3], "the logits' size")
    checks = {
        "conv": _check_conv,
        "dense": _check_dense,
        "small-conv": _check_small_conv,
    }
    for number, step in enumerate(program.steps):
        check = checks.get(step.kind, _check_shapes)
        _require(check(program, tensors, step), f"step {number}, {step.kind}")


def _require(holds: object, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _check_conv(program: Program, tensors: Tensors, step: Conv) -> bool:
    features, weights = program.features[step.features], tensors[step.weights]
    if weights.ndim != 5 or weights.dtype != np.int8 or step.channel + weights.shape[4] > features.channels:
        return False
    limits = (weights.shape[1:4], step.stride, step.out, features.size, step.pad)
    for kernel, stride, out, size, pad in zip(*limits, strict=True):
        if not (0 < kernel <= 64 and 0 < stride <= 16 and 0 < out <= size + kernel and 0 <= pad < kernel):
            return False
        if (out - 1) * stride - pad >= size:
            return False
    return all(_store_fits(program, tensors, step, store, len(weights)) for store in step.stores)


def _store_fits(program: Program, tensors: Tensors, step: Conv, store: Store, outputs: int) -> bool:
    count = store.last - store.first
    if count < 1 or store.last > outputs:
        return False
    if any(tensors[index].shape != (count,) or tensors[index].dtype != np.float32 for index in (store.scale, store.bias)):
        return False
    places = [(store.to, store.channel)] if not store.is_float else []
    places += [(one.features, one.channel) for one in store.summands]
    for index, channel in places:
        features = program.features[index]
        if features.size != step.out or channel + count > features.channels:
            return False
    if store.onto and (store.is_float or program.features[store.to].zero != 0):
        return False
    if store.is_float:
        *size, channels = program.arrays[store.to]
        return tuple(size) == step.out and store.channel + count <= channels
    return store.to != step.features


def _check_dense(program: Program, tensors: Tensors, step: Dense) -> bool:
    inputs, outputs = (int(np.prod(program.arrays[index])) for index in (step.array, step.to))
    weights, bias = tensors[step.weights], tensors[step.bias]
    is_float = weights.dtype == bias.dtype == np.float32
    return is_float and weights.shape == (outputs, inputs) and bias.shape == (outputs,) and step.to != step.array


def _check_small_conv(program: Program, tensors: Tensors, step: SmallConv) -> bool:
    size, to = program.arrays[step.array], program.arrays[step.to]
    weights, bias = tensors[step.weights], tensors[step.bias]
    if weights.ndim != 5 or weights.dtype != np.float32 or bias.dtype != np.float32 or step.to == step.array:
        return False
    fits = weights.shape[4] == size[3] and bias.shape == (len(weights),) and to == (*size[:3], len(weights))
    return fits and all(0 <= pad < kernel <= 64 for pad, kernel in zip(step.pad, weights.shape[1:4], strict=True))


def _check_shapes(program: Program, _tensors: Tensors, step: Step) -> bool:  # noqa: C901, PLR0911 - one line a kind
    features, arrays = program.features, program.arrays
    match step:
        case Input():
            to = features[step.to]
            blocks = tuple(size // block for size, block in zip(step.size, step.block, strict=True) if block > 0)
            return min(step.block) > 0 and blocks == to.size and step.channels * np.prod(step.block) == to.channels
        case Pool():
            one, to = features[step.features], features[step.to]
            sizes = zip(one.size, to.size, step.kernel, step.stride, step.pad, strict=True)
            inside = all(0 <= p < k and s > 0 and (out - 1) * s - p < size for size, out, k, s, p in sizes)
            return inside and (one.channels, one.zero) == (to.channels, to.zero) and step.to != step.features
        case Binary():
            sizes4 = zip(arrays[step.a], arrays[step.b], arrays[step.to], strict=True)
            return all(a in (1, to) and b in (1, to) for a, b, to in sizes4)
        case Unary():
            return bool(np.prod(arrays[step.array]) == np.prod(arrays[step.to]))
        case Reduce():
            kept = tuple(1 if over else size for size, over in zip(arrays[step.array], step.over, strict=True))
            return arrays[step.to] == kept and step.to != step.array
        case Round():
            to, size = features[step.to], arrays[step.array]
            return size[:3] == to.size and step.channel + size[3] <= to.channels
        case Restore():
            one, size = features[step.features], arrays[step.to]
            inside = step.channel + step.channels <= one.channels and step.to_channel + step.channels <= size[3]
            return size[:3] == one.size and inside
    return False
