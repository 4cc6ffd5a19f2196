"""Reading a native program with every check that keeps the engine within its memory: bundles are untrusted input."""

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
    Dequantize,
    Epilogue,
    FloatConv,
    FloatPool,
    Input,
    Instruction,
    Pool,
    Program,
    Quantize,
    Reduce,
    Size3,
    TensorRef,
    Tensors,
    Unary,
)

__all__ = ["read_program"]

_MAX_BYTES = 1 << 31  # of one buffer or array
_TILE_OUTPUTS = 16
_MAX_TILE_EPILOGUES = 24  # EA_TILE_EPILOGUES of epilogue.h: epilogues of one pair of tiles
_MAX_BLOCK_WIDTH = 1024  # LINE of layers.c: pixels of one row that become channels
_MAX_KERNEL = 64
_MAX_STRIDE = 16


def read_program(graph: bytes, weights: bytes) -> tuple[Program, Tensors]:
    """Return the program and its tensors, checked: no instruction reads or writes outside the memory that it names.

    `graph` is the program's JSON, `weights` the file of its tensors. Raises ModelError.
    """
    try:
        program = Program.model_validate_json(graph)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"native program: expected JSON of format version 1: {field}: {first['msg']}; export the model again"
        ) from error
    try:
        tensors = [_read_tensor(ref, weights) for ref in program.tensors]
        _check_program(program, tensors)
    except (IndexError, ValueError) as error:
        raise ModelError(f"native program: {error} does not fit the program; export the model again") from error
    return program, tensors


def _read_tensor(ref: TensorRef, weights: bytes) -> npt.NDArray[np.generic]:
    count = math.prod(ref.shape)
    if count == 0 or count > len(weights):
        raise ValueError(f"a tensor of {count} elements in a file of {len(weights)} bytes")
    tensor = np.frombuffer(weights, ref.dtype, count, ref.offset).reshape(ref.shape)
    if ref.dtype == "float32" and not np.isfinite(tensor).all():
        raise ValueError("a tensor with NaN or infinity")
    return tensor


def _check_program(program: Program, tensors: Tensors) -> None:
    for number, buffer in enumerate(program.buffers):
        _require(0 < math.prod(buffer.size) * buffer.channels < _MAX_BYTES, f"the size of buffer {number}")
    for number, size in enumerate(program.arrays):
        _require(0 < math.prod(size) * 4 < _MAX_BYTES, f"the size of array {number}")
    for array, tensor in program.constants.items():
        values, expected = tensors[tensor], math.prod(program.arrays[array])
        _require(values.dtype == np.float32 and values.size == expected, f"the constant of array {array}")
    _require(isinstance(program.instructions[0], Input), "the first instruction")
    inputs = sum(isinstance(instruction, Input) for instruction in program.instructions)
    _require(inputs == 1, f"the number of inputs, {inputs},")
    _require(math.prod(program.arrays[program.logits][:3]) == 1, "the shape of the logits")
    for number, instruction in enumerate(program.instructions):
        _require(_fits(program, tensors, instruction), f"instruction {number}, {instruction.kind},")


def _require(condition: bool, subject: str) -> None:
    if not condition:
        raise ValueError(subject)


def _fits(program: Program, tensors: Tensors, instruction: Instruction) -> bool:
    match instruction:
        case Conv():
            return _conv_fits(program, tensors, instruction)
        case Dense():
            return _dense_fits(program, tensors, instruction)
        case FloatConv():
            return _float_conv_fits(program, tensors, instruction)
        case FloatPool():
            return _float_pool_fits(program, instruction)
        case Input() | Pool() | Quantize() | Dequantize():
            return _buffers_fit(program, instruction)
        case _:
            return _arrays_fit(program, instruction)


def _conv_fits(program: Program, tensors: Tensors, conv: Conv) -> bool:
    buffer, weights = program.buffers[conv.buffer], tensors[conv.weights]
    if weights.ndim != 5 or weights.dtype != np.int8 or conv.channel + weights.shape[4] > buffer.channels:
        return False
    axes = (weights.shape[1:4], conv.stride, conv.out_size, buffer.size, conv.padding)
    for kernel, stride, out, size, padding in zip(*axes, strict=True):
        if not (0 < kernel <= _MAX_KERNEL and 0 < stride <= _MAX_STRIDE and 0 <= padding < kernel):
            return False
        if not 0 < out <= size + kernel or (out - 1) * stride - padding >= size:
            return False
    outputs = len(weights)
    return (
        all(_epilogue_fits(program, tensors, conv, epilogue, outputs) for epilogue in conv.epilogues)
        and _tile_epilogues_fit(conv.epilogues)
        and _are_disjoint(conv.epilogues)
    )


def _epilogue_fits(program: Program, tensors: Tensors, conv: Conv, epilogue: Epilogue, outputs: int) -> bool:
    count = epilogue.last - epilogue.first
    if count < 1 or epilogue.last > outputs:
        return False
    factors = (tensors[epilogue.scale], tensors[epilogue.bias])
    if any(factor.shape != (count,) or factor.dtype != np.float32 for factor in factors):
        return False
    accesses = [(epilogue.to, epilogue.channel)] if not epilogue.is_float else []
    accesses += [(summand.buffer, summand.channel) for summand in epilogue.summands]
    for index, channel in accesses:
        buffer = program.buffers[index]
        if buffer.size != conv.out_size or channel + count > buffer.channels:
            return False
    if epilogue.accumulate and (epilogue.is_float or program.buffers[epilogue.to].zero_point != 0):
        return False
    if epilogue.is_float:
        *size, channels = program.arrays[epilogue.to]
        return tuple(size) == conv.out_size and epilogue.channel + count <= channels
    return epilogue.to != conv.buffer


def _tile_epilogues_fit(epilogues: Sequence[Epilogue]) -> bool:
    """Return whether the engine's table of a pair of tiles holds all epilogues: it drops the rest silently."""
    per_pair: Counter[int] = Counter()
    for epilogue in epilogues:
        tiles = range(epilogue.first // _TILE_OUTPUTS, (epilogue.last - 1) // _TILE_OUTPUTS + 1)
        per_pair.update(tile // 2 for tile in tiles)
    return max(per_pair.values()) <= _MAX_TILE_EPILOGUES


def _are_disjoint(epilogues: Sequence[Epilogue]) -> bool:
    """Return whether no epilogue writes what another one writes or reads, so that thread order is irrelevant."""
    written = [(item.is_float, item.to, item.channel, item.last - item.first) for item in epilogues]
    read = [
        (False, summand.buffer, summand.channel, item.last - item.first)
        for item in epilogues
        for summand in item.summands
    ]
    for first, second in (*combinations(written, 2), *product(written, read)):
        overlap = first[2] < second[2] + second[3] and second[2] < first[2] + first[3]
        if first[:2] == second[:2] and overlap:
            return False
    return True


def _dense_fits(program: Program, tensors: Tensors, dense: Dense) -> bool:
    inputs, outputs = (math.prod(program.arrays[index]) for index in (dense.array, dense.to))
    weights, bias = tensors[dense.weights], tensors[dense.bias]
    is_float = weights.dtype == bias.dtype == np.float32
    return is_float and weights.shape == (outputs, inputs) and bias.shape == (outputs,) and dense.to != dense.array


def _float_conv_fits(program: Program, tensors: Tensors, conv: FloatConv) -> bool:
    size, to = program.arrays[conv.array], program.arrays[conv.to]
    weights, bias = tensors[conv.weights], tensors[conv.bias]
    if weights.ndim != 5 or weights.dtype != np.float32 or bias.dtype != np.float32 or conv.to == conv.array:
        return False
    if weights.shape[4] != size[3] or bias.shape != (len(weights),) or to != (*size[:3], len(weights)):
        return False
    paddings = zip(conv.padding, weights.shape[1:4], strict=True)
    return all(0 <= padding < kernel <= _MAX_KERNEL for padding, kernel in paddings)


def _buffers_fit(program: Program, instruction: Input | Pool | Quantize | Dequantize) -> bool:
    buffers, arrays = program.buffers, program.arrays
    match instruction:
        case Input():
            return _input_fits(program, instruction)
        case Pool():
            return _pool_fits(program, instruction)
        case Quantize():
            to, size = buffers[instruction.to], arrays[instruction.array]
            return size[:3] == to.size and instruction.channel + size[3] <= to.channels
        case Dequantize():
            source, size = buffers[instruction.buffer], arrays[instruction.to]
            is_read = instruction.channel + instruction.channels <= source.channels
            return size[:3] == source.size and is_read and instruction.to_channel + instruction.channels <= size[3]


def _input_fits(program: Program, clip: Input) -> bool:
    to, pixels = program.buffers[clip.to], math.prod(clip.size)
    if min(clip.block) < 1 or clip.block[2] > _MAX_BLOCK_WIDTH or pixels * clip.channels * 4 >= _MAX_BYTES:
        return False
    size = tuple(extent // block for extent, block in zip(clip.size, clip.block, strict=True))
    return size == to.size and clip.channels * math.prod(clip.block) == to.channels


def _windows_fit(pool: Pool | FloatPool, size: Size3, out_size: Size3) -> bool:
    """Return whether each window has a value of the activation."""
    axes = zip(size, out_size, pool.kernel, pool.stride, pool.padding, strict=True)
    return all(
        padding < kernel and stride > 0 and (out - 1) * stride - padding < extent
        for extent, out, kernel, stride, padding in axes
    )


def _float_pool_fits(program: Program, pool: FloatPool) -> bool:
    source, to = program.arrays[pool.array], program.arrays[pool.to]
    return source[3] == to[3] and _windows_fit(pool, source[:3], to[:3]) and pool.to != pool.array


def _pool_fits(program: Program, pool: Pool) -> bool:
    source, to = program.buffers[pool.buffer], program.buffers[pool.to]
    is_inside = _windows_fit(pool, source.size, to.size)
    same_encoding = (source.channels, source.zero_point) == (to.channels, to.zero_point)
    return is_inside and same_encoding and pool.to != pool.buffer


def _arrays_fit(program: Program, instruction: Binary | Unary | Reduce) -> bool:
    arrays = program.arrays
    match instruction:
        case Binary():
            sizes = zip(arrays[instruction.a], arrays[instruction.b], arrays[instruction.to], strict=True)
            return all(a in (1, to) and b in (1, to) for a, b, to in sizes)
        case Unary():
            return math.prod(arrays[instruction.array]) == math.prod(arrays[instruction.to])
        case Reduce():
            axes = zip(arrays[instruction.array], instruction.axes, strict=True)
            reduced = tuple(1 if is_reduced else size for size, is_reduced in axes)
            return arrays[instruction.to] == reduced and instruction.to != instruction.array
