"""Convolutions of the engine against exact integers, in every shape, by both instruction sets and 1 to 3 threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeact.runtime.native import engine
from edgeact.runtime.native.memory import Memory
from edgeact.runtime.native.program import Conv, Restore, Store, Summand
from tests.runtime.native.making import INSTRUCTIONS, NEEDS_ENGINE, After, Before, Building, random_bytes, run

pytestmark = NEEDS_ENGINE

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Part:
    """One store: outputs [first, last), what is added, and how the result is kept."""

    first: int
    last: int
    kind: str  # 'bytes', 'signed', 'onto' or 'float'
    relu: bool
    relu_sum: bool
    summands: tuple[int, ...]  # their zero points
    before: int  # channels in front of it where it goes
    behind: int


@dataclass(frozen=True)
class _Case:
    seed: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    out: tuple[int, ...]
    zero: int
    channel: int
    inputs: int
    behind: int
    outputs: int
    parts: tuple[_Part, ...]


@st.composite
def _parts(draw: st.DrawFn, outputs: int) -> _Part:
    first = draw(st.integers(0, outputs - 1))
    margin = st.integers(0, 20)
    return _Part(
        first=first,
        last=draw(st.integers(first + 1, outputs)),
        kind=draw(st.sampled_from(["bytes", "signed", "onto", "float"])),
        relu=draw(st.booleans()),
        relu_sum=draw(st.booleans()),
        summands=tuple(draw(st.lists(st.sampled_from([0, 128]), max_size=2))),
        before=draw(margin),
        behind=draw(margin),
    )


@st.composite
def _cases(draw: st.DrawFn) -> _Case:
    kernel = draw(st.tuples(*[st.integers(1, 4)] * 3))
    size = draw(st.tuples(*[st.integers(1, 9)] * 3))
    stride = draw(st.tuples(*[st.integers(1, 2)] * 3))
    pad = tuple(draw(st.integers(0, taps - 1)) for taps in kernel)
    most = [min(one + k, (one + p - 1) // s + 1) for one, k, s, p in zip(size, kernel, stride, pad, strict=True)]
    outputs = draw(st.integers(1, 70))
    return _Case(
        seed=draw(st.integers(0, 2**32 - 1)),
        size=size,
        kernel=kernel,
        stride=stride,
        pad=pad,
        out=tuple(draw(st.integers(1, one)) for one in most),
        zero=draw(st.sampled_from([0, 128])),
        channel=draw(st.integers(0, 20)),
        inputs=draw(st.integers(1, 70)),
        behind=draw(st.integers(0, 20)),
        outputs=outputs,
        parts=tuple(draw(st.lists(_parts(outputs), min_size=1, max_size=3))),
    )


def _sums(case: _Case, values: Doubles, weights: Doubles) -> Doubles:
    """Integer sums (T, H, W, outputs), exact in float64: zeros wherever the features end."""
    reach = [(out - 1) * s + k for out, s, k in zip(case.out, case.stride, case.kernel, strict=True)]
    around = [(p, max(0, r - p - one)) for p, r, one in zip(case.pad, reach, case.size, strict=True)]
    padded = np.pad(values, [*around, (0, 0)])
    total = np.zeros((*case.out, case.outputs))
    for tap in np.ndindex(*case.kernel):
        cut = tuple(
            slice(first, first + (out - 1) * s + 1, s) for first, out, s in zip(tap, case.out, case.stride, strict=True)
        )
        total += padded[cut] @ weights[:, tap[0], tap[1], tap[2]].T
    return total


@dataclass(frozen=True)
class _Expected:
    """Channels [first, last) of the result: real values before rounding, what lies there, and the limits of both."""

    real: Doubles
    base: Doubles
    low: float
    high: float


def _expected(part: _Part, real: Doubles, added: list[Doubles], base: Doubles) -> _Expected:
    if part.relu:
        real = np.maximum(real, 0)
    real = real + sum(added, np.zeros_like(real))
    if part.relu_sum:
        real = np.maximum(real, 0)
    low, high = {"float": (-np.inf, np.inf), "signed": (-128.0, 127.0)}.get(part.kind, (0.0, 255.0))
    return _Expected(real, base if part.kind == "onto" else np.zeros_like(base), low, high)


Wanted = tuple[_Part, Doubles, _Expected]
"""A part, what lies around its outputs, and what has to come out."""


def _built(case: _Case) -> tuple[Any, list[Wanted]]:
    """The program, and what has to come out of its parts."""
    rng, made = np.random.default_rng(case.seed), Building()
    values = random_bytes(rng, *case.size, case.channel + case.inputs + case.behind)
    weights = rng.integers(-127, 128, (case.outputs, *case.kernel, case.inputs), np.int8)
    source = made.holding(values, case.zero)
    read = values[..., case.channel : case.channel + case.inputs].astype(np.float64) - case.zero
    sums = _sums(case, read, weights.astype(np.float64))
    stores, expected, width = [], [], sum(part.before + part.behind + part.last - part.first for part in case.parts)
    result, at = made.array((*case.out, width)), 0
    for part in case.parts:
        store, wanted = _stored(case, part, sums, made, rng)
        if part.kind == "float":
            store = store.model_copy(update={"to": result, "channel": at + part.before})
        stores.append(store)
        expected.append(wanted)
        at += wanted[1].shape[3]
    made.steps.append(
        Conv(
            features=source,
            channel=case.channel,
            weights=made.tensor(weights),
            stride=case.stride,  # type: ignore[arg-type]
            pad=case.pad,  # type: ignore[arg-type]
            out=case.out,  # type: ignore[arg-type]
            stores=tuple(stores),
        )
    )
    _restore(made, stores, expected, result)
    return made.made(result), expected


def _stored(case: _Case, part: _Part, sums: Doubles, made: Building, rng: np.random.Generator) -> tuple[Store, Wanted]:
    """A part of the outputs, stored to features of its own."""
    count, spread = part.last - part.first, max(float(np.abs(sums).max()) / 4, 1.0)
    scale = (rng.uniform(20, 150, count) / spread).astype(np.float32)
    bias = rng.uniform(-50, 50, count).astype(np.float32)
    there = random_bytes(rng, *case.out, part.before + count + part.behind)
    zero = 128 if part.kind == "signed" else 0
    summands, added = [], []
    for one_zero in part.summands:
        one, factor = random_bytes(rng, *case.out, count + 3), float(rng.uniform(-1, 1))
        summands.append(Summand(features=made.holding(one, one_zero), channel=2, scale=factor))
        added.append((one[..., 2 : 2 + count].astype(np.float64) - one_zero) * factor)
    store = Store(
        first=part.first,
        last=part.last,
        to=0 if part.kind == "float" else made.holding(there, zero),
        channel=part.before,
        is_float=part.kind == "float",
        relu=part.relu,
        relu_sum=part.relu_sum,
        onto=part.kind == "onto",
        summands=tuple(summands),
        scale=made.tensor(scale),
        bias=made.tensor(bias),
    )
    around = there.astype(np.float64) - zero
    real = sums[..., part.first : part.last] * scale + bias
    lies = around[..., part.before : part.before + count]
    return store, (part, around, _expected(part, real, added, lies))


def _restore(made: Building, stores: list[Store], expected: list[Wanted], result: int) -> None:
    """Bring what was stored to features into the result."""
    at = 0
    for store, (part, around, _) in zip(stores, expected, strict=True):
        channels = around.shape[3]
        if part.kind != "float":
            made.steps.append(
                Restore(features=store.to, channel=0, channels=channels, step=1, to=result, to_channel=at)
            )
        at += channels


def _check(found: npt.NDArray[np.float32], expected: list[Wanted]) -> None:
    at = 0
    for part, around, wanted in expected:
        got, inside = found[..., at : at + around.shape[3]].astype(np.float64), slice(part.before, -part.behind or None)
        at += around.shape[3]
        real = np.clip(wanted.base + np.clip(wanted.real, wanted.low, wanted.high), wanted.low, wanted.high)
        off = np.abs(got[..., inside] - real)
        assert off.max() < (0.05 if part.kind == "float" else 0.55), part
        outside = np.ones(around.shape[3], bool)
        outside[inside] = False
        untouched = np.zeros_like(around) if part.kind == "float" else around
        np.testing.assert_array_equal(got[..., outside], untouched[..., outside])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(_cases())
def test_a_convolution_is_exact_and_stays_within_its_memory(case: _Case) -> None:
    """Every run has guards before or behind all memory: touching one ends the process."""
    made, expected = _built(case)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for memory, threads in ((Before, 1), (After, 2), (After, 1), (Memory, 3)):
            patch.setattr(engine, "Memory", memory)
            results += [run(made, threads=threads, name=name) for name in INSTRUCTIONS]
    assert all(np.array_equal(one, results[0]) for one in results)
    _check(results[0].reshape(*case.out, -1), expected)


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_many_outputs_are_dealt_out_by_outputs(name: str) -> None:
    """Weights beyond the second cache: chunks are pairs of tiles, an odd one among them, and lines are whole frames."""
    part = _Part(3, 215, "bytes", False, False, (128,), 5, 0)
    case = _Case(1, (3, 5, 7), (3, 3, 3), (1, 1, 1), (1, 1, 1), (3, 5, 7), 128, 0, 130, 0, 215, (part,))
    made, expected = _built(case)
    results = [run(made, threads=threads, name=name) for threads in (1, 2, 3)]
    assert all(np.array_equal(one, results[0]) for one in results)
    _check(results[0].reshape(*case.out, -1), expected)


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_lines_of_several_parts(name: str) -> None:
    """Frames of more than 256 pixels are computed in parts, whose edges lie within rows."""
    part = _Part(0, 33, "signed", True, False, (), 0, 0)
    case = _Case(2, (2, 30, 23), (1, 3, 3), (1, 1, 1), (0, 1, 1), (2, 30, 23), 0, 0, 5, 0, 33, (part,))
    made, expected = _built(case)
    found = run(made, threads=2, name=name)
    _check(found.reshape(*case.out, -1), expected)


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_as_many_stores_as_a_pair_of_tiles_may_have(name: str) -> None:
    parts = tuple(_Part(one % 2 * 16, one % 2 * 16 + 9, "bytes", False, False, (), 1, 1) for one in range(24))
    case = _Case(3, (1, 4, 4), (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 4, 4), 128, 0, 16, 0, 32, parts)
    made, expected = _built(case)
    _check(run(made, name=name).reshape(*case.out, -1), expected)


@pytest.mark.parametrize("name", INSTRUCTIONS)
@pytest.mark.parametrize("width", [16, 17, 40])
@pytest.mark.parametrize("rows", [1, 4, 5])
@pytest.mark.parametrize("outputs", [16, 40])
def test_strided_rows_are_computed_two_and_two_while_they_are_narrow(
    outputs: int, rows: int, width: int, name: str
) -> None:
    """Up to 16 pixels go beside those of the next row, which an odd number of rows leaves empty."""
    out, size = (2, rows, width), (3, 2 * rows, 2 * width)
    part = _Part(1, outputs, "bytes", True, False, (0,), 2, 3)
    case = _Case(4, size, (3, 3, 3), (2, 2, 2), (1, 1, 1), out, 0, 1, 20, 2, outputs, (part,))
    made, expected = _built(case)
    for memory in (Before, After):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "Memory", memory)
            _check(run(made, threads=2, name=name).reshape(*out, -1), expected)
