"""Reading a native program, with every check that keeps the engine within memory: bundles may come from anybody."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from edgeact.errors import ModelError
from edgeact.runtime.native.program import (
    Binary,
    Conv,
    Dense,
    Input,
    Pool,
    Program,
    Reduce,
    Restore,
    Round,
    SmallConv,
    Step,
    Store,
    TensorRef,
    Tensors,
    Unary,
)

__all__ = ["read_program"]

_LARGEST = 1 << 31  # bytes of one buffer
_TILE = 16  # outputs
_SLICES = 24  # EA_SLICES: stores that the engine takes for two tiles
_BLOCK = 1024  # ROW of layers.c: pixels of one row that become channels


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
    count = math.prod(ref.shape)
    if count == 0 or count > len(weights):
        raise ValueError("a tensor is empty or goes beyond the file")
    tensor = np.frombuffer(weights, ref.dtype, count, ref.offset).reshape(ref.shape)
    if ref.dtype == "float32" and not np.isfinite(tensor).all():
        raise ValueError("a tensor is not finite")
    return tensor


def _check(program: Program, tensors: Tensors) -> None:
    for features in program.features:
        _require(0 < math.prod(features.size) * features.channels < _LARGEST, "features")
    for size in program.arrays:
        _require(0 < math.prod(size) * 4 < _LARGEST, "an array")
    for array, tensor in program.constants.items():
        held = tensors[tensor]
        _require(held.dtype == np.float32 and held.size == math.prod(program.arrays[array]), f"constant array {array}")
    _require(isinstance(program.steps[0], Input), "the first step")
    _require(sum(isinstance(step, Input) for step in program.steps) == 1, "the number of inputs")
    _require(math.prod(program.arrays[program.logits][:3]) == 1, "the logits' size")
    for number, step in enumerate(program.steps):
        _require(_fits(program, tensors, step), f"step {number}, {step.kind}")


def _require(holds: object, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _fits(program: Program, tensors: Tensors, step: Step) -> bool:
    match step:
        case Conv():
            return _check_conv(program, tensors, step)
        case Dense():
            return _check_dense(program, tensors, step)
        case SmallConv():
            return _check_small_conv(program, tensors, step)
        case Input() | Pool() | Round() | Restore():
            return _check_features(program, step)
        case _:
            return _check_arrays(program, step)


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
    fit = all(_store_fits(program, tensors, step, store, len(weights)) for store in step.stores)
    return fit and _slices_fit(step.stores) and _are_apart(step.stores)


def _store_fits(program: Program, tensors: Tensors, step: Conv, store: Store, outputs: int) -> bool:
    count = store.last - store.first
    if count < 1 or store.last > outputs:
        return False
    factors = (tensors[store.scale], tensors[store.bias])
    if any(one.shape != (count,) or one.dtype != np.float32 for one in factors):
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


def _slices_fit(stores: Sequence[Store]) -> bool:
    """Whether the engine takes them all: it would leave out the rest."""
    slices: Counter[int] = Counter()
    for store in stores:
        slices.update(tile // 2 for tile in range(store.first // _TILE, (store.last - 1) // _TILE + 1))
    return max(slices.values()) <= _SLICES


def _are_apart(stores: Sequence[Store]) -> bool:
    """Whether no store writes where another one writes or reads, in whatever order threads come to them."""
    written = [(one.is_float, one.to, one.channel, one.last - one.first) for one in stores]
    read = [(False, s.features, s.channel, one.last - one.first) for one in stores for s in one.summands]
    for one, other in (*combinations(written, 2), *product(written, read)):
        if one[:2] == other[:2] and one[2] < other[2] + other[3] and other[2] < one[2] + one[3]:
            return False
    return True


def _check_dense(program: Program, tensors: Tensors, step: Dense) -> bool:
    inputs, outputs = (math.prod(program.arrays[index]) for index in (step.array, step.to))
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


def _check_features(program: Program, step: Input | Pool | Round | Restore) -> bool:
    features, arrays = program.features, program.arrays
    match step:
        case Input():
            to, pixels = features[step.to], math.prod(step.size)
            if min(step.block) < 1 or step.block[2] > _BLOCK or pixels * step.channels * 4 >= _LARGEST:
                return False
            blocks = tuple(size // block for size, block in zip(step.size, step.block, strict=True))
            return blocks == to.size and step.channels * math.prod(step.block) == to.channels
        case Pool():
            one, to = features[step.features], features[step.to]
            sizes = zip(one.size, to.size, step.kernel, step.stride, step.pad, strict=True)
            inside = all(p < k and s > 0 and (out - 1) * s - p < size for size, out, k, s, p in sizes)
            return inside and (one.channels, one.zero) == (to.channels, to.zero) and step.to != step.features
        case Round():
            to, size = features[step.to], arrays[step.array]
            return size[:3] == to.size and step.channel + size[3] <= to.channels
        case Restore():
            one, size = features[step.features], arrays[step.to]
            inside = step.channel + step.channels <= one.channels and step.to_channel + step.channels <= size[3]
            return size[:3] == one.size and inside


def _check_arrays(program: Program, step: Binary | Unary | Reduce) -> bool:
    arrays = program.arrays
    match step:
        case Binary():
            sizes = zip(arrays[step.a], arrays[step.b], arrays[step.to], strict=True)
            return all(a in (1, to) and b in (1, to) for a, b, to in sizes)
        case Unary():
            return math.prod(arrays[step.array]) == math.prod(arrays[step.to])
        case Reduce():
            kept = tuple(1 if over else size for size, over in zip(arrays[step.array], step.over, strict=True))
            return arrays[step.to] == kept and step.to != step.array
