"""Every other step of the engine against NumPy, its threads, and several engines at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.runtime.native import engine
from edgeact.runtime.native.engine import Engine
from edgeact.runtime.native.program import (
    Binary,
    Dense,
    Input,
    Pool,
    Reduce,
    Restore,
    Round,
    SmallConv,
    Unary,
)
from edgeact.runtime.native.reading import read_program
from tests.runtime.native.making import (
    CLIP_SHAPE,
    INSTRUCTIONS,
    NEEDS_ENGINE,
    After,
    Before,
    Building,
    floats,
    random_bytes,
    run,
    whole,
)

pytestmark = NEEDS_ENGINE

Floats = npt.NDArray[np.float32]
SIZES = st.tuples(*[st.integers(1, 6)] * 3)
CHANNELS = st.sampled_from([1, 2, 15, 16, 17, 64, 65])
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, params=[Before, After], ids=["before", "after"], scope="module")
def guarded(request: pytest.FixtureRequest) -> Any:
    """A touch of what lies before or behind any memory of the engine ends the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Memory", request.param)
        yield


def _same(found: Floats, wanted: npt.NDArray[Any], atol: float = 1e-5) -> None:
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-4, atol=atol)


@settings(max_examples=40, deadline=None)
@given(SEEDS, SIZES, st.tuples(*[st.integers(1, 3)] * 3), CHANNELS, st.sampled_from([0, 128]))
def test_the_clip_is_rounded_into_blocks(seed: int, size: Any, block: Any, channels: int, zero: int) -> None:
    clip = floats(np.random.default_rng(seed), channels, *(one * two for one, two in zip(size, block, strict=True)))
    made = Building()
    to = made.place(size, channels * int(np.prod(block)), zero)
    made.steps.append(Input(to=to, channels=channels, size=clip.shape[1:], block=block, step=0.02))
    t, h, w = size
    split = clip.reshape(channels, t, block[0], h, block[1], w, block[2]).transpose(1, 3, 5, 0, 2, 4, 6)
    real = split.reshape(t, h, w, -1).astype(np.float64) / np.float32(0.02)
    found = run(made.made(made.restored(to)), clip, threads=2).reshape(real.shape)
    assert np.abs(found - np.clip(real, -zero, 255 - zero)).max() <= 0.501


def test_a_row_of_a_clip_longer_than_the_engines_line() -> None:
    clip = floats(np.random.default_rng(0), 2, 1, 1, 2500)
    made = Building()
    to = made.place((1, 1, 2500), 2, 128)
    made.steps.append(Input(to=to, channels=2, size=(1, 1, 2500), block=(1, 1, 1), step=0.02))
    found = run(made.made(made.restored(to)), clip).reshape(2500, 2)
    assert np.abs(found - np.clip(clip[:, 0, 0].T / 0.02, -128, 127)).max() <= 0.501


@settings(max_examples=60, deadline=None)
@given(st.data(), SEEDS, SIZES, CHANNELS, st.sampled_from([0, 128]))
def test_pools_take_the_largest_of_what_lies_inside(
    data: st.DataObject, seed: int, size: Any, channels: int, zero: int
) -> None:
    kernel = data.draw(st.tuples(*[st.integers(1, 4)] * 3))
    stride = data.draw(st.tuples(*[st.integers(1, 3)] * 3))
    pad = tuple(data.draw(st.integers(0, one - 1)) for one in kernel)
    out: Any = tuple((one + p - 1) // s + 1 for one, p, s in zip(size, pad, stride, strict=True))
    values, made = random_bytes(np.random.default_rng(seed), *size, channels), Building()
    source, to = made.holding(values, zero), made.place(out, channels, zero)
    made.steps.append(Pool(features=source, to=to, kernel=kernel, stride=stride, pad=pad))  # type: ignore[arg-type]
    wanted = np.zeros((*out, channels))
    for at in np.ndindex(*out):
        begins = [one * s - p for one, s, p in zip(at, stride, pad, strict=True)]
        window = tuple(slice(max(0, begin), begin + k) for begin, k in zip(begins, kernel, strict=True))
        wanted[at] = values[window].max((0, 1, 2)).astype(np.float64) - zero
    _same(run(made.made(made.restored(to)), threads=3), wanted, atol=0)


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "mul": np.multiply,
    "add": np.add,
    "sub": np.subtract,
    "div": np.divide,
    "max": np.maximum,
}


@settings(max_examples=60, deadline=None)
@given(st.data(), SEEDS, SIZES, CHANNELS, st.sampled_from(list(BINARY)))
def test_two_arrays_repeat_what_has_a_size_of_1(
    data: st.DataObject, seed: int, size: Any, channels: int, op: Any
) -> None:
    rng, made, full = np.random.default_rng(seed), Building(), (*size, channels)
    one, other = (floats(rng, *(data.draw(st.sampled_from([1, each])) for each in full)) for _ in range(2))
    other = (np.sign(other) * (np.abs(other) + 0.5)).astype(np.float32)
    to = made.array(full)
    made.steps.append(Binary(op=op, a=made.array(one.shape, one), b=made.array(other.shape, other), to=to))
    _same(run(made.made(to), threads=2), np.broadcast_to(BINARY[op](one, other), full))


UNARY: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "sqrt": lambda x: np.sqrt(np.abs(x)),
    "exp": np.exp,
    "copy": lambda x: x,
}


@pytest.mark.parametrize("op", UNARY)
def test_every_value_by_itself(op: Any) -> None:
    values, made = floats(np.random.default_rng(0), 2, 3, 4, 5) * 3, Building()
    if op == "sqrt":
        values = np.abs(values)
    to = made.array((4, 3, 2, 5))
    made.steps.append(Unary(op=op, array=made.array(values.shape, values), to=to))
    _same(run(made.made(to)), UNARY[op](values))


@settings(max_examples=60, deadline=None)
@given(SEEDS, SIZES, CHANNELS, st.tuples(*[st.booleans()] * 4), st.sampled_from(["sum", "mean", "max"]))
def test_reductions_keep_axes_of_size_1(seed: int, size: Any, channels: int, over: Any, op: Any) -> None:
    values, made = floats(np.random.default_rng(seed), *size, channels), Building()
    wanted = getattr(np, op)(values.astype(np.float64), axis=tuple(np.flatnonzero(over)), keepdims=True)
    to = made.array(wanted.shape)
    made.steps.append(Reduce(op=op, array=made.array(values.shape, values), over=over, to=to))
    _same(run(made.made(to)), wanted, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(SEEDS, CHANNELS, CHANNELS)
def test_dense_is_a_product_and_a_bias(seed: int, inputs: int, outputs: int) -> None:
    rng, made = np.random.default_rng(seed), Building()
    values, weights, bias = floats(rng, inputs), floats(rng, outputs, inputs), floats(rng, outputs)
    source, to = made.array((1, 1, 1, inputs), values), made.array((1, 1, 1, outputs))
    made.steps.append(Dense(array=source, weights=made.tensor(weights), bias=made.tensor(bias), to=to))
    _same(run(made.made(to)), weights.astype(np.float64) @ values + bias, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.data(), SEEDS, SIZES, st.integers(1, 5), st.integers(1, 4))
def test_a_small_convolution_keeps_the_size(
    data: st.DataObject, seed: int, size: Any, channels: int, outputs: int
) -> None:
    rng, made = np.random.default_rng(seed), Building()
    kernel = data.draw(st.tuples(*[st.integers(1, 4)] * 3))
    pad: Any = tuple(data.draw(st.integers(0, one - 1)) for one in kernel)
    values, weights, bias = floats(rng, *size, channels), floats(rng, outputs, *kernel, channels), floats(rng, outputs)
    to = made.array((*size, outputs))
    source, parts = made.array(values.shape, values), (made.tensor(weights), made.tensor(bias))
    made.steps.append(SmallConv(array=source, weights=parts[0], bias=parts[1], pad=pad, to=to))
    around = [(p, k - 1 - p) for p, k in zip(pad, kernel, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, [*around, (0, 0)]), kernel, (0, 1, 2))
    wanted = np.einsum("thwcijk,oijkc->thwo", windows.astype(np.float64), weights) + bias
    _same(run(made.made(to), threads=3), wanted, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(SEEDS, SIZES, st.integers(0, 9), CHANNELS, st.integers(0, 9), st.sampled_from([0, 128]))
def test_rounding_and_restoring_touch_their_channels_alone(
    seed: int, size: Any, before: int, channels: int, behind: int, zero: int
) -> None:
    rng, made = np.random.default_rng(seed), Building()
    there, values = random_bytes(rng, *size, before + channels + behind), floats(rng, *size, channels) * 9
    to = made.holding(there, zero)
    made.steps.append(Round(array=made.array(values.shape, values), to=to, channel=before, step=0.1))
    array = made.array((*size, before + channels + behind + 2))
    inside = slice(before, before + channels)
    for first, count, factor in ((0, before + channels + behind, 0.25), (before, channels, 1)):
        one = Restore(features=to, channel=first, channels=count, step=factor, to=array, to_channel=first + 1)
        made.steps.append(one)
    found = run(made.made(array), threads=2).reshape(*size, -1)
    assert not found[..., [0, -1]].any()
    real = np.clip(values.astype(np.float64) / 0.1, -zero, 255 - zero)
    assert np.abs(found[..., 1:-1][..., inside] - real).max() <= 0.501
    outside = np.ones(there.shape[3], bool)
    outside[inside] = False
    wanted = (there.astype(np.float64) - zero) / 4
    np.testing.assert_array_equal(found[..., 1:-1][..., outside], wanted[..., outside])


def _opened(threads: int, name: str) -> Engine:
    program, data = whole()
    return Engine(*read_program(program.model_dump_json().encode(), data), threads, name)


def _clips(count: int) -> list[Floats]:
    return [floats(np.random.default_rng(seed), *CLIP_SHAPE) for seed in range(count)]


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_a_whole_program_gives_the_same_bits_with_any_threads_every_time(name: str) -> None:
    results = []
    for threads in (1, 2, 3):
        opened = _opened(threads, name)
        results += [[opened.run(clip) for clip in _clips(3)] for _ in range(2)]
        opened.close()
    assert all(np.array_equal(one, results[0]) for one in results)
    assert not np.array_equal(results[0][0], results[0][1])
    assert np.isfinite(results[0]).all()


def test_engines_run_side_by_side() -> None:
    """Two callers, each with an engine of its own and threads of its own."""
    clips = _clips(2)
    engines = [_opened(2, name) for name in (INSTRUCTIONS[0], INSTRUCTIONS[-1])]
    wanted = [opened.run(clip) for opened, clip in zip(engines, clips, strict=True)]
    found: list[list[Floats]] = [[], []]

    def call(index: int) -> None:
        found[index] += [engines[index].run(clips[index]) for _ in range(200)]

    callers = [threading.Thread(target=call, args=(index,)) for index in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for opened in engines:
        opened.close()
    for results, one in zip(found, wanted, strict=True):
        assert len(results) == 200
        assert all(np.array_equal(result, one) for result in results)


def _threads() -> set[str]:
    return {task.name for task in Path("/proc/self/task").iterdir()}


def _gone(threads: set[str]) -> bool:
    """Whether they end: the system may show a thread a moment longer than its join takes."""
    until = time.monotonic() + 5
    while threads & _threads() and time.monotonic() < until:
        time.sleep(0.001)
    return not threads & _threads()


def test_threads_end_when_an_engine_is_closed() -> None:
    before = _threads()
    for count in (1, 2, 3, 8) * 10:
        opened = _opened(count, INSTRUCTIONS[0])
        helpers = _threads() - before
        assert len(helpers) == count - 1  # the caller's thread works too
        if count == 3:
            opened.run(_clips(1)[0])
        opened.close()
        assert _gone(helpers)


def test_a_profile_has_a_time_for_every_step() -> None:
    opened = _opened(2, INSTRUCTIONS[0])
    (clip,) = _clips(1)
    logits = opened.run(clip)
    times = opened.profile(clip)
    assert times.shape == (len(whole()[0].steps),)
    assert (times > 0).all()
    np.testing.assert_array_equal(opened.run(clip), logits)
    opened.close()
