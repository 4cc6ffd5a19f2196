"""Every instruction but Conv against NumPy, the threads, and several engines at once."""

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
from edgeact.runtime.native.library import Isa
from edgeact.runtime.native.program import (
    Binary,
    Dense,
    Dequantize,
    FloatConv,
    FloatPool,
    Input,
    Pool,
    Quantize,
    Reduce,
    Unary,
)
from edgeact.runtime.native.reading import read_program
from tests.runtime.native.making import (
    CLIP_SHAPE,
    ISAS,
    NEEDS_ENGINE,
    After,
    Before,
    ProgramBuilder,
    every_instruction,
    floats,
    random_bytes,
    run,
)

pytestmark = NEEDS_ENGINE

Floats = npt.NDArray[np.float32]
SIZES = st.tuples(*[st.integers(1, 6)] * 3)
CHANNELS = st.sampled_from([1, 2, 15, 16, 17, 64, 65])
SEEDS = st.integers(0, 2**32 - 1)
ZERO_POINTS = st.sampled_from([0, 128])


@pytest.fixture(autouse=True, params=[Before, After], ids=["before", "after"], scope="module")
def guarded(request: pytest.FixtureRequest) -> Any:
    """Put guard pages around all memory of the engine: an access outside ends the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Memory", request.param)
        yield


def _assert_close(actual: Floats, expected: npt.NDArray[Any], atol: float = 1e-5) -> None:
    np.testing.assert_allclose(actual.reshape(expected.shape), expected, rtol=1e-4, atol=atol)


@settings(max_examples=40)
@given(SEEDS, SIZES, st.tuples(*[st.integers(1, 3)] * 3), CHANNELS, ZERO_POINTS)
def test_input_quantizes_the_clip_with_space_to_depth(
    seed: int, size: Any, block: Any, channels: int, zero_point: int
) -> None:
    clip = floats(
        np.random.default_rng(seed), channels, *(extent * factor for extent, factor in zip(size, block, strict=True))
    )
    builder = ProgramBuilder()
    to = builder.buffer(size, channels * int(np.prod(block)), zero_point)
    builder.add(Input(to=to, channels=channels, size=clip.shape[1:], block=block, scale=0.02))
    t, h, w = size
    blocks = clip.reshape(channels, t, block[0], h, block[1], w, block[2]).transpose(1, 3, 5, 0, 2, 4, 6)
    real = blocks.reshape(t, h, w, -1).astype(np.float64) / np.float32(0.02)
    actual = run(builder.build(builder.dequantized(to)), clip, threads=2).reshape(real.shape)
    assert np.abs(actual - np.clip(real, -zero_point, 255 - zero_point)).max() <= 0.501


def test_input_takes_rows_longer_than_the_engines_line() -> None:
    clip = floats(np.random.default_rng(0), 2, 1, 1, 2500)
    builder = ProgramBuilder()
    to = builder.buffer((1, 1, 2500), 2, 128)
    builder.add(Input(to=to, channels=2, size=(1, 1, 2500), block=(1, 1, 1), scale=0.02))
    actual = run(builder.build(builder.dequantized(to)), clip).reshape(2500, 2)
    assert np.abs(actual - np.clip(clip[:, 0, 0].T / 0.02, -128, 127)).max() <= 0.501


@settings(max_examples=60)
@given(st.data(), SEEDS, SIZES, CHANNELS, ZERO_POINTS)
def test_pool_takes_the_maximum_without_padding(
    data: st.DataObject, seed: int, size: Any, channels: int, zero_point: int
) -> None:
    kernel = data.draw(st.tuples(*[st.integers(1, 4)] * 3))
    stride = data.draw(st.tuples(*[st.integers(1, 3)] * 3))
    padding = tuple(data.draw(st.integers(0, taps - 1)) for taps in kernel)
    out: Any = tuple((extent + p - 1) // s + 1 for extent, p, s in zip(size, padding, stride, strict=True))
    values, builder = random_bytes(np.random.default_rng(seed), *size, channels), ProgramBuilder()
    source, to = builder.filled_buffer(values, zero_point), builder.buffer(out, channels, zero_point)
    builder.add(Pool(buffer=source, to=to, kernel=kernel, stride=stride, padding=padding))  # type: ignore[arg-type]
    expected = np.zeros((*out, channels))
    for at in np.ndindex(*out):
        begins = [index * s - p for index, s, p in zip(at, stride, padding, strict=True)]
        window = tuple(slice(max(0, begin), begin + k) for begin, k in zip(begins, kernel, strict=True))
        expected[at] = values[window].max((0, 1, 2)).astype(np.float64) - zero_point
    _assert_close(run(builder.build(builder.dequantized(to)), threads=3), expected, atol=0)


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "mul": np.multiply,
    "add": np.add,
    "sub": np.subtract,
    "div": np.divide,
    "max": np.maximum,
}


@settings(max_examples=60)
@given(st.data(), SEEDS, SIZES, CHANNELS, st.sampled_from(list(BINARY)))
def test_binary_broadcasts_axes_of_size_1(data: st.DataObject, seed: int, size: Any, channels: int, op: Any) -> None:
    rng, builder, full = np.random.default_rng(seed), ProgramBuilder(), (*size, channels)
    a, b = (floats(rng, *(data.draw(st.sampled_from([1, extent])) for extent in full)) for _ in range(2))
    b = (np.sign(b) * (np.abs(b) + 0.5)).astype(np.float32)
    to = builder.array(full)
    builder.add(Binary(op=op, a=builder.array(a.shape, a), b=builder.array(b.shape, b), to=to))
    _assert_close(run(builder.build(to), threads=2), np.broadcast_to(BINARY[op](a, b), full))


UNARY: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "sqrt": lambda x: np.sqrt(np.abs(x)),
    "exp": np.exp,
    "copy": lambda x: x,
}


@pytest.mark.parametrize("op", UNARY)
def test_unary_maps_every_element(op: Any) -> None:
    values, builder = floats(np.random.default_rng(0), 2, 3, 4, 5) * 3, ProgramBuilder()
    if op == "sqrt":
        values = np.abs(values)
    to = builder.array((4, 3, 2, 5))
    builder.add(Unary(op=op, array=builder.array(values.shape, values), to=to))
    _assert_close(run(builder.build(to)), UNARY[op](values))


@settings(max_examples=60)
@given(SEEDS, SIZES, CHANNELS, st.tuples(*[st.booleans()] * 4), st.sampled_from(["sum", "mean", "max"]))
def test_reduce_keeps_axes_with_size_1(seed: int, size: Any, channels: int, axes: Any, op: Any) -> None:
    values, builder = floats(np.random.default_rng(seed), *size, channels), ProgramBuilder()
    expected = getattr(np, op)(values.astype(np.float64), axis=tuple(np.flatnonzero(axes)), keepdims=True)
    to = builder.array(expected.shape)
    builder.add(Reduce(op=op, array=builder.array(values.shape, values), axes=axes, to=to))
    _assert_close(run(builder.build(to)), expected, atol=1e-3)


@settings(max_examples=40)
@given(SEEDS, CHANNELS, CHANNELS)
def test_dense_multiplies_and_adds_a_bias(seed: int, inputs: int, outputs: int) -> None:
    rng, builder = np.random.default_rng(seed), ProgramBuilder()
    values, weights, bias = floats(rng, inputs), floats(rng, outputs, inputs), floats(rng, outputs)
    source, to = builder.array((1, 1, 1, inputs), values), builder.array((1, 1, 1, outputs))
    builder.add(Dense(array=source, weights=builder.tensor(weights), bias=builder.tensor(bias), to=to))
    _assert_close(run(builder.build(to)), weights.astype(np.float64) @ values + bias, atol=1e-4)


@settings(max_examples=40)
@given(st.data(), SEEDS, SIZES, st.integers(1, 5), st.integers(1, 4))
def test_float_conv_keeps_the_size(data: st.DataObject, seed: int, size: Any, channels: int, outputs: int) -> None:
    rng, builder = np.random.default_rng(seed), ProgramBuilder()
    kernel = data.draw(st.tuples(*[st.integers(1, 4)] * 3))
    padding: Any = tuple(data.draw(st.integers(0, taps - 1)) for taps in kernel)
    values, weights, bias = floats(rng, *size, channels), floats(rng, outputs, *kernel, channels), floats(rng, outputs)
    to = builder.array((*size, outputs))
    source, parts = builder.array(values.shape, values), (builder.tensor(weights), builder.tensor(bias))
    builder.add(FloatConv(array=source, weights=parts[0], bias=parts[1], padding=padding, to=to))
    around = [(p, k - 1 - p) for p, k in zip(padding, kernel, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, [*around, (0, 0)]), kernel, (0, 1, 2))
    expected = np.einsum("thwcijk,oijkc->thwo", windows.astype(np.float64), weights) + bias
    _assert_close(run(builder.build(to), threads=3), expected, atol=1e-4)


@settings(max_examples=60)
@given(st.data(), SEEDS, SIZES, st.integers(1, 40))
def test_float_pool_takes_the_mean_of_each_window(data: st.DataObject, seed: int, size: Any, channels: int) -> None:
    values, builder = floats(np.random.default_rng(seed), *size, channels), ProgramBuilder()
    kernel: Any = tuple(data.draw(st.integers(1, extent)) for extent in size)
    stride: Any = tuple(data.draw(st.integers(1, 3)) for _ in size)
    padding: Any = tuple(data.draw(st.integers(0, taps - 1)) for taps in kernel)
    padded = np.pad(values.astype(np.float64), [*((p, p) for p in padding), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, (0, 1, 2))
    expected = windows[:: stride[0], :: stride[1], :: stride[2]].mean(axis=(4, 5, 6))
    to, source = builder.array(expected.shape), builder.array(values.shape, values)
    builder.add(FloatPool(array=source, kernel=kernel, stride=stride, padding=padding, to=to))
    _assert_close(run(builder.build(to), threads=3), expected, atol=1e-4)


@settings(max_examples=40)
@given(SEEDS, SIZES, st.integers(0, 9), CHANNELS, st.integers(0, 9), ZERO_POINTS)
def test_quantize_and_dequantize_access_only_their_channels(
    seed: int, size: Any, before: int, channels: int, behind: int, zero_point: int
) -> None:
    rng, builder = np.random.default_rng(seed), ProgramBuilder()
    filling, values = random_bytes(rng, *size, before + channels + behind), floats(rng, *size, channels) * 9
    to = builder.filled_buffer(filling, zero_point)
    builder.add(Quantize(array=builder.array(values.shape, values), to=to, channel=before, scale=0.1))
    array = builder.array((*size, before + channels + behind + 2))
    inside = slice(before, before + channels)
    for first, count, factor in ((0, before + channels + behind, 0.25), (before, channels, 1)):
        instruction = Dequantize(buffer=to, channel=first, channels=count, scale=factor, to=array, to_channel=first + 1)
        builder.add(instruction)
    actual = run(builder.build(array), threads=2).reshape(*size, -1)
    assert not actual[..., [0, -1]].any()
    real = np.clip(values.astype(np.float64) / 0.1, -zero_point, 255 - zero_point)
    assert np.abs(actual[..., 1:-1][..., inside] - real).max() <= 0.501
    outside = np.ones(filling.shape[3], bool)
    outside[inside] = False
    expected = (filling.astype(np.float64) - zero_point) / 4
    np.testing.assert_array_equal(actual[..., 1:-1][..., outside], expected[..., outside])


def _open(threads: int, isa: Isa) -> Engine:
    program, data = every_instruction()
    return Engine(*read_program(program.to_json(), data), threads, isa)


def _clips(count: int) -> list[Floats]:
    return [floats(np.random.default_rng(seed), *CLIP_SHAPE) for seed in range(count)]


@pytest.mark.parametrize("isa", ISAS)
def test_a_program_gives_the_same_bits_with_any_number_of_threads(isa: Isa) -> None:
    results = []
    for threads in (1, 2, 3):
        opened = _open(threads, isa)
        results += [[opened.run(clip) for clip in _clips(3)] for _ in range(2)]
        opened.close()
    assert all(np.array_equal(result, results[0]) for result in results)
    assert not np.array_equal(results[0][0], results[0][1])
    assert np.isfinite(results[0]).all()


def test_engines_run_side_by_side() -> None:
    """Two callers, each with a separate engine and threads."""
    clips = _clips(2)
    engines = [_open(2, isa) for isa in (ISAS[0], ISAS[-1])]
    expected = [opened.run(clip) for opened, clip in zip(engines, clips, strict=True)]
    actual: list[list[Floats]] = [[], []]

    def call(index: int) -> None:
        actual[index] += [engines[index].run(clips[index]) for _ in range(200)]

    callers = [threading.Thread(target=call, args=(index,)) for index in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for opened in engines:
        opened.close()
    for results, logits in zip(actual, expected, strict=True):
        assert len(results) == 200
        assert all(np.array_equal(result, logits) for result in results)


def _threads() -> set[str]:
    return {task.name for task in Path("/proc/self/task").iterdir()}


def _have_ended(threads: set[str]) -> bool:
    """Wait until the threads have ended: the system may list a thread briefly after its join."""
    until = time.monotonic() + 5
    while threads & _threads() and time.monotonic() < until:
        time.sleep(0.001)
    return not threads & _threads()


def test_threads_end_when_an_engine_is_closed() -> None:
    before = _threads()
    for count in (1, 2, 3, 8) * 10:
        opened = _open(count, ISAS[0])
        helpers = _threads() - before
        assert len(helpers) == count - 1  # the caller's thread works too
        if count == 3:
            opened.run(_clips(1)[0])
        opened.close()
        assert _have_ended(helpers)


def test_a_profile_has_a_time_for_every_instruction() -> None:
    opened = _open(2, ISAS[0])
    (clip,) = _clips(1)
    logits = opened.run(clip)
    times = opened.profile(clip)
    assert times.shape == (len(every_instruction()[0].instructions),)
    assert (times > 0).all()
    np.testing.assert_array_equal(opened.run(clip), logits)
    opened.close()
