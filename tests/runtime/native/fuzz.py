"""Mutated programs: each must be refused as ModelError, or run without an access outside its memory.

`python -m tests.runtime.native.fuzz --mutations 100000` is the long form, which `make sanitize` runs on a build with
AddressSanitizer. Every mutation depends on its number alone, so `--first N --mutations 1` repeats number N.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from edgeact.errors import EdgeactError
from edgeact.runtime.native import engine
from edgeact.runtime.native.memory import Memory
from edgeact.runtime.native.program import Conv, Epilogue, Input, Program
from edgeact.runtime.native.reading import read_program
from tests.runtime.native.making import ISAS, After, Before, ProgramBuilder, every_instruction, floats, random_bytes

__all__ = ["Outcome", "check_mutation", "convolution"]

Outcome: TypeAlias = Literal["refused", "too large", "ran"]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Slot: TypeAlias = tuple[Any, str | int]
"""A container of the JSON and a key or index in it."""

_ALIGNMENT_BYTES = 64
_MAX_VALUES = 1 << 20  # of all buffers and arrays together: a larger program is right, but slow
_NUMBERS = (-1, 0, 1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 1023, 1024, 1 << 16, 1 << 30)
_LARGE_NUMBERS = ((1 << 31) - 1, 1 << 31, 1 << 32, 1 << 63, 0.5, 1e-30, 1e36, -1e36, 1e39)


class Heap(Memory):
    """Each allocation comes from the C library, so that AddressSanitizer knows where it ends."""

    def __init__(self) -> None:
        super().__init__()
        self._libc = ctypes.CDLL(None)
        self._libc.memalign.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
        self._libc.memalign.restype = ctypes.c_void_p
        self._libc.free.argtypes = (ctypes.c_void_p,)
        self._addresses: list[int] = []

    def take(self, count: int) -> Bytes:
        address = self._libc.memalign(_ALIGNMENT_BYTES, count)
        if address is None:
            raise MemoryError(f"{count} bytes")
        self._addresses.append(address)
        taken = np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address))
        taken[:] = 0
        return taken

    def __del__(self) -> None:
        for address in self._addresses:
            self._libc.free(address)


@dataclass(frozen=True)
class _Seed:
    """A valid program: its JSON and its file of tensors."""

    graph: dict[str, Any]
    data: bytes


def convolution(kernel: int, stride: int, width: int, outputs: int, frames: int = 3) -> tuple[Program, bytes]:
    """Return a program of one convolution on 20 channels, to a buffer and accumulating to another."""
    rng, builder = np.random.default_rng(width), ProgramBuilder()
    source = builder.filled_buffer(random_bytes(rng, frames, 2 * stride, width * stride, 20), 128)
    padding = (kernel // 2,) * 3
    out_size = tuple((extent - 1) // stride + 1 for extent in builder.buffers[source].size)
    to = [builder.filled_buffer(random_bytes(rng, *out_size, outputs), 0) for _ in range(2)]
    factors = [builder.tensor(floats(rng, outputs) * 0.01) for _ in range(2)]
    epilogues = [
        Epilogue(
            first=0,
            last=outputs,
            to=buffer,
            channel=0,
            relu=True,
            accumulate=number == 1,
            scale=factors[0],
            bias=factors[1],
        )
        for number, buffer in enumerate(to)
    ]
    conv = {
        "buffer": source,
        "channel": 1,
        "weights": builder.tensor(rng.integers(-127, 128, (outputs, kernel, kernel, kernel, 18), np.int8)),
        "stride": (stride,) * 3,
        "padding": padding,
        "out_size": out_size,
        "epilogues": tuple(epilogues),
    }
    builder.add(Conv.model_validate(conv))
    return builder.build(builder.dequantized(to[1]))


def _seeds() -> list[_Seed]:
    programs = [every_instruction(), convolution(3, 1, 9, 33), convolution(3, 2, 9, 40), convolution(1, 2, 20, 16)]
    programs.append(convolution(3, 1, 20, 33, frames=4))  # in Winograd's form by AVX2
    return [_Seed(json.loads(program.to_json()), data) for program, data in programs]


_SEEDS = _seeds()


def check_mutation(number: int) -> Outcome:
    """Read and run mutation `number`; anything but an EdgeactError propagates, or ends the process."""
    rng = np.random.default_rng(number)
    graph, data = _mutated(_SEEDS[0 if number % 2 else number // 2 % len(_SEEDS)], rng)
    try:
        program, tensors = read_program(graph, data)
        sizes = [math.prod(buffer.size) * buffer.channels for buffer in program.buffers]
        if sum(sizes) + sum(math.prod(size) for size in program.arrays) > _MAX_VALUES:
            return "too large"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "Memory", (Heap, Before, After)[number % 3])
            opened = engine.Engine(program, tensors, 1 + number % 2, ISAS[number % len(ISAS)])
    except EdgeactError:
        return "refused"
    try:
        opened.run(_clip(program, rng))
    finally:
        opened.close()
    return "ran"


def _clip(program: Program, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return a clip of the program's size, now and then with values that no camera gives."""
    clip = program.instructions[0]
    assert isinstance(clip, Input)
    values = floats(rng, clip.channels, *clip.size)
    if rng.random() < 0.2:
        values.reshape(-1)[rng.integers(values.size)] = rng.choice([np.nan, np.inf, -np.inf, 3e38])
    return values


def _mutated(seed: _Seed, rng: np.random.Generator) -> tuple[bytes, bytes]:
    graph, data = copy.deepcopy(seed.graph), bytearray(seed.data)
    kind = rng.random()
    if kind < 0.75:
        for _ in range(rng.integers(1, 4)):
            _change_graph(graph, rng)
    if kind > 0.7:
        _change_tensors(data, rng)
    text = bytearray(json.dumps(graph).encode())
    if kind > 0.95:
        text[int(rng.integers(len(text)))] = rng.integers(256)
    return bytes(text), bytes(data)


def _change_tensors(data: bytearray, rng: np.random.Generator) -> None:
    """Change bytes, put in extreme values, or cut the file off."""
    kind = rng.random()
    if kind < 0.2:
        del data[int(rng.integers(len(data))) :]
        return
    for _ in range(rng.integers(1, 20)):
        at = int(rng.integers(len(data) // 4)) * 4
        value = np.float32(rng.choice([1e38, -1e38, 1e-40, 0])).tobytes()
        data[at : at + 4] = value if kind < 0.6 else rng.bytes(4)


def _change_graph(graph: dict[str, Any], rng: np.random.Generator) -> None:
    slots = _slots(graph)
    container, key = slots[rng.integers(len(slots))]
    value, kind = container[key], rng.random()
    if isinstance(value, bool):
        container[key] = not value
    elif isinstance(value, int | float) and kind < 0.9:
        numbers = _LARGE_NUMBERS if kind < 0.1 else _NUMBERS
        container[key] = value + int(rng.choice([-1, 1])) if kind < 0.4 else numbers[rng.integers(len(numbers))]
    elif isinstance(container, list) and kind < 0.3:
        del container[int(key)]
    elif isinstance(container, list) and kind < 0.5:
        container.insert(int(rng.integers(len(container) + 1)), copy.deepcopy(value))
    else:  # a value from elsewhere, most often of the same key
        same = [slot for slot in slots if slot[1] == key] if kind < 0.8 else slots
        other, other_key = same[rng.integers(len(same))]
        container[key] = copy.deepcopy(other[other_key])


def _slots(value: Any) -> list[Slot]:
    """Return every place in the JSON."""
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [
        slot
        for key in keys
        for slot in ((value, key), *(_slots(value[key]) if isinstance(value[key], dict | list) else ()))
    ]


def main() -> None:
    """Check mutations [first, first + mutations) and print how many were refused and how many ran."""
    parser = argparse.ArgumentParser(prog="python -m tests.runtime.native.fuzz", description=main.__doc__)
    parser.add_argument("--mutations", type=int, default=300, help="Number of mutated programs. Default: 300.")
    parser.add_argument("--first", type=int, default=0, help="Number of the first mutation. Default: 0.")
    parser.add_argument("--log", type=Path, help="File that holds the number of the mutation in progress.")
    arguments = parser.parse_args()
    outcomes: Counter[Outcome] = Counter()
    for number in range(arguments.first, arguments.first + arguments.mutations):
        if arguments.log:
            arguments.log.write_text(f"{number}\n", encoding="utf-8")
        outcomes[check_mutation(number)] += 1
    print(f"{arguments.mutations} mutated programs: {dict(outcomes)}")


if __name__ == "__main__":
    main()
