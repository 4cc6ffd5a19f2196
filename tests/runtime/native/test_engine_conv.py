"""Convolutions of the engine against exact integers, in every shape, by all instruction sets and 1 to 3 threads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeact.runtime.native import engine
from edgeact.runtime.native.library import Isa
from edgeact.runtime.native.memory import Memory
from edgeact.runtime.native.program import Conv, Dequantize, Epilogue, Program, Summand
from tests.runtime.native.making import ISAS, NEEDS_ENGINE, After, Before, ProgramBuilder, random_bytes, run

pytestmark = NEEDS_ENGINE

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _EpilogueCase:
    """One epilogue: outputs [first, last), its summands, and its destination."""

    first: int
    last: int
    destination: str  # 'unsigned', 'signed', 'accumulate' or 'float'
    relu: bool
    relu_after_sum: bool
    summands: tuple[int, ...]  # zero points
    before: int  # channels of the destination in front of the outputs
    behind: int


@dataclass(frozen=True)
class _Case:
    seed: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    out_size: tuple[int, ...]
    zero_point: int
    channel: int
    inputs: int
    behind: int
    outputs: int
    epilogues: tuple[_EpilogueCase, ...]


@st.composite
def _epilogue_cases(draw: st.DrawFn, outputs: int) -> _EpilogueCase:
    first = draw(st.integers(0, outputs - 1))
    around = st.integers(0, 20)
    return _EpilogueCase(
        first=first,
        last=draw(st.integers(first + 1, outputs)),
        destination=draw(st.sampled_from(["unsigned", "signed", "accumulate", "float"])),
        relu=draw(st.booleans()),
        relu_after_sum=draw(st.booleans()),
        summands=tuple(draw(st.lists(st.sampled_from([0, 128]), max_size=2))),
        before=draw(around),
        behind=draw(around),
    )


@st.composite
def _cases(draw: st.DrawFn) -> _Case:
    kernel = draw(st.tuples(*[st.integers(1, 4)] * 3))
    size = draw(st.tuples(*[st.integers(1, 9)] * 3))
    stride = draw(st.tuples(*[st.integers(1, 2)] * 3))
    padding = tuple(draw(st.integers(0, taps - 1)) for taps in kernel)
    axes = zip(size, kernel, stride, padding, strict=True)
    most = [min(extent + k, (extent + p - 1) // s + 1) for extent, k, s, p in axes]
    outputs = draw(st.integers(1, 70))
    return _Case(
        seed=draw(st.integers(0, 2**32 - 1)),
        size=size,
        kernel=kernel,
        stride=stride,
        padding=padding,
        out_size=tuple(draw(st.integers(1, extent)) for extent in most),
        zero_point=draw(st.sampled_from([0, 128])),
        channel=draw(st.integers(0, 20)),
        inputs=draw(st.integers(1, 70)),
        behind=draw(st.integers(0, 20)),
        outputs=outputs,
        epilogues=tuple(draw(st.lists(_epilogue_cases(outputs), min_size=1, max_size=3))),
    )


def _integer_sums(case: _Case, values: Doubles, weights: Doubles) -> Doubles:
    """Convolve exactly in float64 with zero padding on all sides: (T, H, W, outputs)."""
    reach = [(out - 1) * s + k for out, s, k in zip(case.out_size, case.stride, case.kernel, strict=True)]
    padding = [(p, max(0, r - p - extent)) for p, r, extent in zip(case.padding, reach, case.size, strict=True)]
    padded = np.pad(values, [*padding, (0, 0)])
    total = np.zeros((*case.out_size, case.outputs))
    for tap in np.ndindex(*case.kernel):
        axes = zip(tap, case.out_size, case.stride, strict=True)
        cut = tuple(slice(first, first + (out - 1) * s + 1, s) for first, out, s in axes)
        total += padded[cut] @ weights[:, tap[0], tap[1], tap[2]].T
    return total


@dataclass(frozen=True)
class _Expected:
    """What one epilogue must leave in its destination."""

    case: _EpilogueCase
    filling: Doubles
    """Dequantized content of the whole destination before the run, (T, H, W, channels)."""
    real: Doubles
    """Outputs before quantization, (T, H, W, last - first)."""

    @property
    def channels(self) -> int:
        return int(self.filling.shape[3])

    @property
    def outputs(self) -> slice:
        return slice(self.case.before, -self.case.behind or None)

    def values(self) -> Doubles:
        """Return the outputs, clipped to what the destination can hold."""
        low, high = {"float": (-np.inf, np.inf), "signed": (-128.0, 127.0)}.get(self.case.destination, (0.0, 255.0))
        base = self.filling[..., self.outputs] if self.case.destination == "accumulate" else 0
        return np.asarray(np.clip(base + np.clip(self.real, low, high), low, high))


def _build(case: _Case) -> tuple[tuple[Program, bytes], list[_Expected]]:
    """Return a program whose result is all destinations side by side, and what each must hold."""
    rng, builder = np.random.default_rng(case.seed), ProgramBuilder()
    values = random_bytes(rng, *case.size, case.channel + case.inputs + case.behind)
    weights = rng.integers(-128, 128, (case.outputs, *case.kernel, case.inputs), np.int8)
    source = builder.filled_buffer(values, case.zero_point)
    inputs = values[..., case.channel : case.channel + case.inputs].astype(np.float64) - case.zero_point
    sums = _integer_sums(case, inputs, weights.astype(np.float64))
    width = sum(each.before + each.behind + each.last - each.first for each in case.epilogues)
    epilogues, expected, result, at = [], [], builder.array((*case.out_size, width)), 0
    for each in case.epilogues:
        epilogue, wanted = _epilogue(case, each, sums, builder, rng)
        if each.destination == "float":
            epilogue = epilogue.model_copy(update={"to": result, "channel": at + each.before})
        epilogues.append(epilogue)
        expected.append(wanted)
        at += wanted.channels
    conv = {
        "buffer": source,
        "channel": case.channel,
        "weights": builder.tensor(weights),
        "stride": case.stride,
        "padding": case.padding,
        "out_size": case.out_size,
        "epilogues": tuple(epilogues),
    }
    builder.add(Conv.model_validate(conv))
    _dequantize(builder, epilogues, expected, result)
    return builder.build(result), expected


def _epilogue(
    case: _Case, each: _EpilogueCase, sums: Doubles, builder: ProgramBuilder, rng: np.random.Generator
) -> tuple[Epilogue, _Expected]:
    """Return an epilogue with a buffer of its own as destination."""
    count, spread = each.last - each.first, max(float(np.abs(sums).max()) / 4, 1.0)
    scale = (rng.uniform(20, 150, count) / spread).astype(np.float32)
    bias = rng.uniform(-50, 50, count).astype(np.float32)
    filling = random_bytes(rng, *case.out_size, each.before + count + each.behind)
    zero_point = 128 if each.destination == "signed" else 0
    real = sums[..., each.first : each.last] * scale + bias
    real = np.maximum(real, 0) if each.relu else real
    summands = []
    for summand_zero_point in each.summands:
        summand, factor = random_bytes(rng, *case.out_size, count + 3), float(rng.uniform(-1, 1))
        buffer = builder.filled_buffer(summand, summand_zero_point)
        summands.append(Summand(buffer=buffer, channel=2, scale=factor))
        real = real + (summand[..., 2 : 2 + count].astype(np.float64) - summand_zero_point) * factor
    epilogue = Epilogue(
        first=each.first,
        last=each.last,
        to=0 if each.destination == "float" else builder.filled_buffer(filling, zero_point),
        channel=each.before,
        is_float=each.destination == "float",
        relu=each.relu,
        relu_after_sum=each.relu_after_sum,
        accumulate=each.destination == "accumulate",
        summands=tuple(summands),
        scale=builder.tensor(scale),
        bias=builder.tensor(bias),
    )
    real = np.maximum(real, 0) if each.relu_after_sum else real
    return epilogue, _Expected(each, filling.astype(np.float64) - zero_point, real)


def _dequantize(builder: ProgramBuilder, epilogues: list[Epilogue], expected: list[_Expected], result: int) -> None:
    """Dequantize every destination buffer into the result."""
    at = 0
    for epilogue, wanted in zip(epilogues, expected, strict=True):
        if not epilogue.is_float:
            builder.add(
                Dequantize(buffer=epilogue.to, channel=0, channels=wanted.channels, scale=1, to=result, to_channel=at)
            )
        at += wanted.channels


def _check(result: npt.NDArray[np.float32], expected: list[_Expected]) -> None:
    at = 0
    for wanted in expected:
        actual = result[..., at : at + wanted.channels].astype(np.float64)
        at += wanted.channels
        is_float = wanted.case.destination == "float"
        error = np.abs(actual[..., wanted.outputs] - wanted.values())
        assert error.max() < (0.05 if is_float else 0.55), wanted.case
        outside = np.ones(wanted.channels, bool)
        outside[wanted.outputs] = False
        untouched = np.zeros_like(wanted.filling) if is_float else wanted.filling
        np.testing.assert_array_equal(actual[..., outside], untouched[..., outside])


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(_cases())
def test_a_convolution_is_exact_and_remains_within_its_memory(case: _Case) -> None:
    """Every run has guard pages before or behind all memory: an access outside ends the process."""
    program, expected = _build(case)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for memory, threads in ((Before, 1), (After, 2), (After, 1), (Memory, 3)):
            patch.setattr(engine, "Memory", memory)
            results.append(run(program, threads=threads))
    assert all(np.array_equal(result, results[0]) for result in results)
    _check(results[0].reshape(*case.out_size, -1), expected)


@pytest.mark.parametrize("isa", ISAS)
def test_large_weights_are_divided_by_outputs(isa: Isa) -> None:
    """Weights beyond the L2 cache: chunks are pairs of tiles, the last one a single tile, over whole frames."""
    epilogue = _EpilogueCase(3, 215, "unsigned", False, False, (128,), 5, 0)
    case = _Case(1, (3, 5, 7), (3, 3, 3), (1, 1, 1), (1, 1, 1), (3, 5, 7), 128, 0, 130, 0, 215, (epilogue,))
    program, expected = _build(case)
    results = [run(program, threads=threads, isa=isa) for threads in (1, 2, 3)]
    assert all(np.array_equal(result, results[0]) for result in results)
    _check(results[0].reshape(*case.out_size, -1), expected)


@pytest.mark.parametrize("isa", ISAS)
def test_lines_of_several_parts(isa: Isa) -> None:
    """Frames of more than 256 pixels are computed in parts whose edges lie within rows."""
    epilogue = _EpilogueCase(0, 33, "signed", True, False, (), 0, 0)
    case = _Case(2, (2, 30, 23), (1, 3, 3), (1, 1, 1), (0, 1, 1), (2, 30, 23), 0, 0, 5, 0, 33, (epilogue,))
    program, expected = _build(case)
    _check(run(program, threads=2, isa=isa).reshape(*case.out_size, -1), expected)


@pytest.mark.parametrize("isa", ISAS)
def test_as_many_epilogues_as_a_pair_of_tiles_may_have(isa: Isa) -> None:
    firsts = [index % 2 * 16 for index in range(24)]
    epilogues = tuple(_EpilogueCase(first, first + 9, "unsigned", False, False, (), 1, 1) for first in firsts)
    case = _Case(3, (1, 4, 4), (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 4, 4), 128, 0, 16, 0, 32, epilogues)
    program, expected = _build(case)
    _check(run(program, isa=isa).reshape(*case.out_size, -1), expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", [16, 17, 40])
@pytest.mark.parametrize("rows", [1, 4, 5])
@pytest.mark.parametrize("outputs", [16, 40])
def test_short_strided_rows_are_computed_in_pairs(outputs: int, rows: int, width: int, isa: Isa) -> None:
    """Rows of up to 16 pixels share a block with the next row; an odd number of rows leaves half a block empty."""
    out_size, size = (2, rows, width), (3, 2 * rows, 2 * width)
    epilogue = _EpilogueCase(1, outputs, "unsigned", True, False, (0,), 2, 3)
    case = _Case(4, size, (3, 3, 3), (2, 2, 2), (1, 1, 1), out_size, 0, 1, 20, 2, outputs, (epilogue,))
    program, expected = _build(case)
    for memory in (Before, After):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "Memory", memory)
            _check(run(program, threads=2, isa=isa).reshape(*out_size, -1), expected)


WORST_WEIGHTS: dict[str, tuple[int, ...]] = {
    "all 127": (127,),
    "all -127": (-127,),
    "all -128": (-128,),
    "pairs": (127, 127, -128, -128),
    "alternating": (127, -128),
    "quads": (127, 127, 127, 127, -128, -128, -128, -128),
    "at the bound of a pair": (64, 64, -64, -64),
    "above the bound of a pair": (65, 64, -65, -64),
}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", WORST_WEIGHTS)
@pytest.mark.parametrize(("kernel", "inputs"), [((1, 1, 1), 500), ((3, 3, 3), 18)])
def test_the_largest_activations_by_the_largest_weights_do_not_saturate(
    kernel: tuple[int, int, int], inputs: int, name: str, threads: int
) -> None:
    """Two such products exceed 16 bits. Sums of up to 510 products are below 2**24, so float32 holds them exactly."""
    size, outputs, builder = (3, 4, 9), 40, ProgramBuilder()
    source = builder.filled_buffer(np.full((*size, inputs), 255, np.uint8), 0)
    weights = np.resize(np.array(WORST_WEIGHTS[name], np.int8), (outputs, *kernel, inputs))
    result = builder.array((*size, outputs))
    one, zero = (builder.tensor(np.full(outputs, value, np.float32)) for value in (1, 0))
    epilogue = Epilogue(first=0, last=outputs, to=result, channel=0, is_float=True, relu=False, scale=one, bias=zero)
    conv = {
        "buffer": source,
        "weights": builder.tensor(weights),
        "stride": (1, 1, 1),
        "padding": tuple(taps // 2 for taps in kernel),
        "out_size": size,
        "epilogues": (epilogue,),
    }
    builder.add(Conv.model_validate(conv))
    case = _Case(0, size, kernel, (1, 1, 1), conv["padding"], size, 0, 0, inputs, 0, outputs, ())  # type: ignore[arg-type]
    expected = _integer_sums(case, np.full((*size, inputs), 255.0), weights.astype(np.float64))
    actual = run(builder.build(result), threads=threads).reshape(*size, outputs)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("size", [(2, 4, 20), (4, 2, 56), (2, 2, 60), (2, 2, 120)])
@pytest.mark.parametrize(("inputs", "outputs"), [(16, 16), (25, 33), (128, 24)])
@pytest.mark.parametrize("zero_point", [0, 128])
def test_wide_3x3x3_convolutions(size: tuple[int, ...], inputs: int, outputs: int, zero_point: int) -> None:
    """AVX2 and AVX-VNNI compute them in Winograd's form, in strips of up to 56 pixels by 2 rows and 2 frames."""
    destinations = ("unsigned", "signed", "accumulate", "float")
    epilogues = tuple(
        _EpilogueCase(first, outputs - first, destination, True, False, (0, 128)[: 2 - first], 3, 1)
        for first, destination in enumerate(destinations)
    )
    padding = (1, 1, 1) if inputs > 16 else (0, 2, 1)
    case = _Case(5, size, (3, 3, 3), (1, 1, 1), padding, size, zero_point, 5, inputs, 2, outputs, epilogues)
    program, expected = _build(case)
    for memory, threads in ((Before, 1), (After, 2), (After, 3)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "Memory", memory)
            _check(run(program, threads=threads).reshape(*size, -1), expected)


@pytest.mark.parametrize("weight", [127, -128])
def test_the_largest_sums_of_wide_3x3x3_convolutions(weight: int) -> None:
    """255 * 128 * 27 * 128 inputs, scaled to stay within the integers that float32 holds."""
    size, builder = (2, 2, 24), ProgramBuilder()
    source = builder.filled_buffer(np.full((*size, 128), 255, np.uint8), 0)
    result = builder.array((*size, 24))
    scale, zero = (builder.tensor(np.full(24, value, np.float32)) for value in (2.0**-8, 0))
    epilogue = Epilogue(first=0, last=24, to=result, channel=0, is_float=True, relu=False, scale=scale, bias=zero)
    weights = np.full((24, 3, 3, 3, 128), weight, np.int8)
    conv = {
        "buffer": source,
        "weights": builder.tensor(weights),
        "stride": (1, 1, 1),
        "padding": (1, 1, 1),
        "out_size": size,
        "epilogues": (epilogue,),
    }
    builder.add(Conv.model_validate(conv))
    actual = run(builder.build(result)).reshape(*size, 24)
    assert actual[0, 0, 1, 0] == np.float32(255 * weight * 2 * 2 * 3 * 128) / 256
    assert actual[0, 0, 0, 0] == np.float32(255 * weight * 2 * 2 * 2 * 128) / 256
