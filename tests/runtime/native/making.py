"""Programs builder by hand, and the instruction sets that can run them here."""

from __future__ import annotations

import ctypes
import mmap
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeact.runtime.backends.native import NativeBackend
from edgeact.runtime.native import library
from edgeact.runtime.native.engine import Engine
from edgeact.runtime.native.library import Isa
from edgeact.runtime.native.memory import Memory
from edgeact.runtime.native.program import (
    Binary,
    Buffer,
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
    Summand,
    Tensors,
    Unary,
    join_tensors,
)
from edgeact.runtime.native.reading import read_program
from tests.runtime.native.recording import record

__all__ = [
    "CLIP_SHAPE",
    "ISAS",
    "NEEDS_ENGINE",
    "After",
    "Before",
    "ProgramBuilder",
    "every_instruction",
    "floats",
    "random_bytes",
    "run",
]

Size3 = tuple[int, int, int]
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

if sanitized := os.environ.get("EDGEACT_TEST_NATIVE_LIBRARY"):  # of scripts/sanitize.sh; before the first use
    library.library_file = Path(sanitized)
_WHY = NativeBackend().why_unavailable()
NEEDS_ENGINE = pytest.mark.skipif(_WHY is not None, reason=str(_WHY))
ISAS: tuple[Isa, ...] = () if _WHY else library.supported_isas()
"""All instruction sets of this processor, the fastest first."""

CLIP_SHAPE = (3, 2, 6, 6)
_NO_ACCESS = 0


class _Guarded(Memory):
    """Each allocation has pages of its own between two guard pages."""

    at_end: bool

    def take(self, count: int) -> Bytes:
        page = mmap.PAGESIZE
        pages = -(-count // page)
        area = mmap.mmap(-1, (pages + 2) * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        whole = np.frombuffer(area, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (0, pages + 1):
            address = ctypes.c_void_p(whole.ctypes.data + guard * page)
            assert libc.mprotect(address, ctypes.c_size_t(page), _NO_ACCESS) == 0
        self._blocks.append(whole)
        first = page + (pages * page - count - -count % 4 if self.at_end else 0)
        return whole[first : first + count]


class Before(_Guarded):
    """An access before an allocation ends the process."""

    at_end = False


class After(_Guarded):
    """An access more than 3 bytes behind an allocation ends the process."""

    at_end = True


@dataclass
class ProgramBuilder:
    """Builds a program instruction by instruction."""

    buffers: list[Buffer] = field(default_factory=list)
    arrays: list[tuple[int, ...]] = field(default_factory=list)
    constants: dict[int, int] = field(default_factory=dict)
    tensors: list[npt.NDArray[Any]] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)

    def add(self, instruction: Instruction) -> None:
        self.instructions.append(instruction)

    def tensor(self, values: npt.NDArray[Any]) -> int:
        """Add a tensor and return its index."""
        self.tensors.append(values)
        return len(self.tensors) - 1

    def array(self, size: tuple[int, ...], values: Floats | None = None) -> int:
        """Add an array (T, H, W, C), constant if `values` are given, and return its index."""
        self.arrays.append(size)
        if values is not None:
            self.constants[len(self.arrays) - 1] = self.tensor(values)
        return len(self.arrays) - 1

    def buffer(self, size: Size3, channels: int, zero_point: int) -> int:
        """Add a buffer and return its index."""
        fields = {"size": size, "channels": channels, "zero_point": zero_point}
        self.buffers.append(Buffer.model_validate(fields))
        return len(self.buffers) - 1

    def filled_buffer(self, values: Bytes, zero_point: int) -> int:
        """Add a buffer that the next instruction finds filled with bytes (T, H, W, C)."""
        size: Any = values.shape[:3]
        to = self.buffer(size, values.shape[3], zero_point)
        real = (values.astype(np.float32) - zero_point).astype(np.float32)
        self.add(Quantize(array=self.array(values.shape, real), to=to, scale=1))
        return to

    def dequantized(self, buffer: int) -> int:
        """Add an array with the bytes of a buffer minus their zero point."""
        source = self.buffers[buffer]
        to = self.array((*source.size, source.channels))
        self.add(Dequantize(buffer=buffer, channel=0, channels=source.channels, scale=1, to=to))
        return to

    def build(self, logits: int) -> tuple[Program, bytes]:
        """Return the program with array `logits` as its result, flattened; without an input, add one of 1 value."""
        instructions = list(self.instructions)
        if not any(isinstance(instruction, Input) for instruction in instructions):
            to = self.buffer((1, 1, 1), 1, 0)
            instructions.insert(0, Input(to=to, channels=1, size=(1, 1, 1), block=(1, 1, 1), scale=1))
        flat = self.array((1, 1, 1, int(np.prod(self.arrays[logits]))))
        instructions.append(Unary(op="copy", array=logits, to=flat))
        refs, data = join_tensors(self.tensors)
        return Program(
            buffers=tuple(self.buffers),
            arrays=tuple(self.arrays),  # type: ignore[arg-type]
            constants=self.constants,
            tensors=refs,
            instructions=tuple(instructions),
            logits=flat,
        ), data


def run(program: tuple[Program, bytes], clip: Floats | None = None, threads: int = 1, isa: Isa | None = None) -> Floats:
    """Return the logits by one instruction set, by default by all, which must give the same bits.

    The program goes through JSON and back.
    """
    clip = np.zeros(1, np.float32) if clip is None else np.ascontiguousarray(clip)
    checked = read_program(program[0].to_json(), program[1])
    if folder := os.environ.get("EDGEACT_TEST_NATIVE_RECORDINGS"):  # of scripts/try_arm.sh
        record(*checked, clip, isa or ISAS[0], Path(folder))
    logits, *others = [_run(checked, clip, threads, each) for each in ([isa] if isa else ISAS)]
    assert all(other.tobytes() == logits.tobytes() for other in others)
    return logits


def _run(checked: tuple[Program, Tensors], clip: Floats, threads: int, isa: Isa) -> Floats:
    engine = Engine(*checked, threads, isa)
    try:
        return engine.run(clip)
    finally:
        engine.close()


def floats(rng: np.random.Generator, *shape: int) -> Floats:
    """Return normally distributed values."""
    return rng.standard_normal(shape).astype(np.float32)


def random_bytes(rng: np.random.Generator, *shape: int) -> Bytes:
    """Return uniformly distributed bytes."""
    return rng.integers(0, 256, shape, np.uint8)


def every_instruction() -> tuple[Program, bytes]:
    """Return a program with every instruction for clips of `CLIP_SHAPE`; 4 logits."""
    rng, builder = np.random.default_rng(0), ProgramBuilder()
    clip, other = builder.buffer((2, 3, 3), 12, 128), builder.buffer((2, 3, 3), 20, 0)
    builder.add(Input(to=clip, channels=3, size=(2, 6, 6), block=(1, 2, 2), scale=0.05))
    conv, pooled = builder.buffer((2, 3, 3), 20, 0), builder.buffer((2, 2, 2), 20, 0)
    quantized = builder.buffer((2, 2, 2), 8, 128)
    builder.add(Quantize(array=builder.array((2, 3, 3, 20), floats(rng, 2, 3, 3, 20)), to=other, scale=0.1))
    factors = [builder.tensor(floats(rng, count) * 0.01) for count in (18, 18, 4, 4)]
    float_outputs = builder.array((2, 3, 3, 5))
    scale, bias, float_scale, float_bias = factors
    summands = (Summand(buffer=other, channel=1, scale=0.5),)
    epilogues = (
        Epilogue(first=0, last=18, to=conv, channel=2, relu=True, summands=summands, scale=scale, bias=bias),
        Epilogue(
            first=14,
            last=18,
            to=float_outputs,
            channel=1,
            is_float=True,
            relu=False,
            scale=float_scale,
            bias=float_bias,
        ),
    )
    weights = builder.tensor(rng.integers(-127, 128, (18, 3, 3, 3, 10), np.int8))
    builder.add(
        Conv(
            buffer=clip,
            channel=1,
            weights=weights,
            stride=(1, 1, 1),
            padding=(1, 1, 1),
            out_size=(2, 3, 3),
            epilogues=epilogues,
        )
    )
    builder.add(Pool(buffer=conv, to=pooled, kernel=(1, 2, 2), stride=(1, 1, 1), padding=(0, 0, 0)))
    half = builder.array((2, 2, 2, 8))
    builder.add(Dequantize(buffer=pooled, channel=3, channels=6, scale=0.5, to=half, to_channel=1))
    mean, gate = builder.array((1, 1, 1, 8)), builder.array((1, 1, 1, 8))
    builder.add(Reduce(op="mean", array=half, axes=(True, True, True, False), to=mean))
    builder.add(Unary(op="sigmoid", array=mean, to=gate))
    builder.add(Binary(op="mul", a=half, b=gate, to=half))
    small = builder.array((2, 2, 2, 8))
    parts = builder.tensor(floats(rng, 8, 3, 1, 2, 8)), builder.tensor(floats(rng, 8))
    builder.add(FloatConv(array=half, weights=parts[0], bias=parts[1], padding=(1, 0, 1), to=small))
    smooth = builder.array((2, 2, 2, 8))
    builder.add(FloatPool(array=small, kernel=(1, 2, 2), stride=(1, 1, 1), padding=(0, 1, 0), to=smooth))
    builder.add(Quantize(array=smooth, to=quantized, scale=0.3))
    dequantized, logits = builder.dequantized(quantized), builder.array((1, 1, 1, 4))
    dense = builder.tensor(floats(rng, 4, 64)), builder.tensor(floats(rng, 4))
    builder.add(Dense(array=dequantized, weights=dense[0], bias=dense[1], to=logits))
    return builder.build(logits)
