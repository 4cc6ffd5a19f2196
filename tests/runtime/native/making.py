"""Programs made by hand, and the instruction sets that can run them here."""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeact.runtime.backends.native import NativeBackend
from edgeact.runtime.native.engine import Engine
from edgeact.runtime.native.library import instructions
from edgeact.runtime.native.memory import Memory
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
from edgeact.runtime.native.reading import read_program

__all__ = [
    "CLIP_SHAPE",
    "INSTRUCTIONS",
    "NEEDS_ENGINE",
    "After",
    "Before",
    "Building",
    "floats",
    "random_bytes",
    "run",
    "whole",
]

Size3 = tuple[int, int, int]
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

_WHY = NativeBackend().why_unavailable()
NEEDS_ENGINE = pytest.mark.skipif(_WHY is not None, reason=str(_WHY))
_BEST = None if _WHY else instructions()
INSTRUCTIONS = {None: (), "avx512-vnni": ("avx512-vnni",), "amx-int8": ("amx-int8", "avx512-vnni")}[_BEST]
"""All that this processor has: AMX comes with VNNI."""

CLIP_SHAPE = (3, 2, 6, 6)
_NO_ACCESS = 0


class _Guarded(Memory):
    """Every piece in pages of its own, between two that nobody may touch."""

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
    """A read or a write before a piece ends the process."""

    at_end = False


class After(_Guarded):
    """A read or a write behind a piece (by 4 bytes) ends the process."""

    at_end = True


@dataclass
class Building:
    """A program in the making; the clip goes nowhere unless a step reads it."""

    features: list[Features] = field(default_factory=list)
    arrays: list[tuple[int, ...]] = field(default_factory=list)
    constants: dict[int, int] = field(default_factory=dict)
    tensors: list[npt.NDArray[Any]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def tensor(self, values: npt.NDArray[Any]) -> int:
        """Index of a new tensor."""
        self.tensors.append(values)
        return len(self.tensors) - 1

    def array(self, size: tuple[int, ...], values: Floats | None = None) -> int:
        """Index of a new array, (T, H, W, C)."""
        self.arrays.append(size)
        if values is not None:
            self.constants[len(self.arrays) - 1] = self.tensor(values)
        return len(self.arrays) - 1

    def place(self, size: Size3, channels: int, zero: int) -> int:
        """Index of new features."""
        self.features.append(Features(size=size, channels=channels, zero=zero))  # type: ignore[arg-type]
        return len(self.features) - 1

    def holding(self, values: Bytes, zero: int) -> int:
        """Features that hold these bytes, (T, H, W, C), before the next step."""
        size: Any = values.shape[:3]
        to = self.place(size, values.shape[3], zero)
        real = (values.astype(np.float32) - zero).astype(np.float32)
        self.steps.append(Round(array=self.array(values.shape, real), to=to, step=1))
        return to

    def restored(self, features: int) -> int:
        """An array of what features hold, as bytes less their zero point."""
        one = self.features[features]
        to = self.array((*one.size, one.channels))
        self.steps.append(Restore(features=features, channel=0, channels=one.channels, step=1, to=to))
        return to

    def made(self, logits: int) -> tuple[Program, bytes]:
        """The program with array `logits` as its result, flattened; a clip (1, 1, 1, 1) where no step takes one."""
        steps = list(self.steps)
        if not any(isinstance(step, Input) for step in steps):
            to = self.place((1, 1, 1), 1, 0)
            steps.insert(0, Input(to=to, channels=1, size=(1, 1, 1), block=(1, 1, 1), step=1))
        flat = self.array((1, 1, 1, int(np.prod(self.arrays[logits]))))
        steps.append(Unary(op="copy", array=logits, to=flat))
        refs, data = join_tensors(self.tensors)
        return Program(
            features=tuple(self.features),
            arrays=tuple(self.arrays),  # type: ignore[arg-type]
            constants=self.constants,
            tensors=refs,
            steps=tuple(steps),
            logits=flat,
        ), data


def run(made: tuple[Program, bytes], clip: Floats | None = None, threads: int = 1, name: str = "") -> Floats:
    """The logits by the instructions `name`, by default the best here; through JSON and back."""
    engine = Engine(*read_program(made[0].model_dump_json().encode(), made[1]), threads, name or INSTRUCTIONS[0])
    try:
        return engine.run(np.zeros(1, np.float32) if clip is None else np.ascontiguousarray(clip))
    finally:
        engine.close()


def floats(rng: np.random.Generator, *shape: int) -> Floats:
    """Normal values."""
    return rng.standard_normal(shape).astype(np.float32)


def random_bytes(rng: np.random.Generator, *shape: int) -> Bytes:
    """All 256 values, equally often."""
    return rng.integers(0, 256, shape, np.uint8)


def whole() -> tuple[Program, bytes]:
    """One step of every kind, for clips of `CLIP_SHAPE`; 4 logits."""
    rng, made = np.random.default_rng(0), Building()
    clip, other = made.place((2, 3, 3), 12, 128), made.place((2, 3, 3), 20, 0)
    made.steps.append(Input(to=clip, channels=3, size=(2, 6, 6), block=(1, 2, 2), step=0.05))
    conv, pooled, joined = made.place((2, 3, 3), 20, 0), made.place((2, 2, 2), 20, 0), made.place((2, 2, 2), 8, 128)
    made.steps.append(Round(array=made.array((2, 3, 3, 20), floats(rng, 2, 3, 3, 20)), to=other, step=0.1))
    factors = [made.tensor(floats(rng, count) * 0.01) for count in (18, 18, 4, 4)]
    in_float = made.array((2, 3, 3, 5))
    added, (scale, bias, few_scales, few_biases) = (Summand(features=other, channel=1, scale=0.5),), factors
    stores = (
        Store(first=0, last=18, to=conv, channel=2, relu=True, summands=added, scale=scale, bias=bias),
        Store(first=14, last=18, to=in_float, channel=1, is_float=True, relu=False, scale=few_scales, bias=few_biases),
    )
    weights = made.tensor(rng.integers(-127, 128, (18, 3, 3, 3, 10), np.int8))
    made.steps.append(
        Conv(features=clip, channel=1, weights=weights, stride=(1, 1, 1), pad=(1, 1, 1), out=(2, 3, 3), stores=stores)
    )
    made.steps.append(Pool(features=conv, to=pooled, kernel=(1, 2, 2), stride=(1, 1, 1), pad=(0, 0, 0)))
    half = made.array((2, 2, 2, 8))
    made.steps.append(Restore(features=pooled, channel=3, channels=6, step=0.5, to=half, to_channel=1))
    mean, gate = made.array((1, 1, 1, 8)), made.array((1, 1, 1, 8))
    made.steps.append(Reduce(op="mean", array=half, over=(True, True, True, False), to=mean))
    made.steps.append(Unary(op="sigmoid", array=mean, to=gate))
    made.steps.append(Binary(op="mul", a=half, b=gate, to=half))
    small = made.array((2, 2, 2, 8))
    parts = made.tensor(floats(rng, 8, 3, 1, 2, 8)), made.tensor(floats(rng, 8))
    made.steps.append(SmallConv(array=half, weights=parts[0], bias=parts[1], pad=(1, 0, 1), to=small))
    made.steps.append(Round(array=small, to=joined, step=0.3))
    again, logits = made.restored(joined), made.array((1, 1, 1, 4))
    dense = made.tensor(floats(rng, 4, 64)), made.tensor(floats(rng, 4))
    made.steps.append(Dense(array=again, weights=dense[0], bias=dense[1], to=logits))
    return made.made(logits)
