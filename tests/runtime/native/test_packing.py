"""Windows take every weight once, and packed weights times the bytes of windows are the convolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.runtime.native.packing import (
    WINDOW,
    Layout,
    layouts,
    out_size,
    packed_weights,
    windows_of,
    zero_point_bias,
)
from edgeact.runtime.native.program import Conv, Store
from tests.runtime.native.making import Building, random_bytes


@dataclass(frozen=True)
class _Case:
    conv: Conv
    kernel: tuple[int, ...]
    layout: Layout
    seed: int


@st.composite
def _cases(draw: st.DrawFn) -> _Case:
    taps, inputs, outputs = (
        draw(st.tuples(*[st.integers(1, 4)] * 3)),
        draw(st.integers(1, 70)),
        draw(st.integers(1, 40)),
    )
    channel = draw(st.integers(0, 70))
    pixel = channel + inputs + draw(st.integers(0, 70))
    row = pixel * draw(st.integers(taps[2], 9))
    time = row * draw(st.integers(taps[1], 9))
    store = Store(first=0, last=1, to=0, channel=0, relu=False, scale=0, bias=0)
    pad = (draw(st.integers(0, taps[0] - 1)), draw(st.integers(0, taps[1] - 1)), draw(st.integers(0, taps[2] - 1)))
    conv = Conv(features=0, channel=channel, weights=0, stride=(1, 1, 1), pad=pad, out=(1, 1, 1), stores=(store,))
    layout = Layout(time, row, pixel, before=4 * time, bytes=0)
    return _Case(conv, (outputs, *taps, inputs), layout, draw(st.integers(0, 2**32 - 1)))


@settings(deadline=None)
@given(_cases())
def test_windows_take_every_weight_once_and_where_it_belongs(case: _Case) -> None:
    windows, layout, conv = windows_of(case.conv, case.kernel, case.layout), case.layout, case.conv
    assert windows.offsets.shape == windows.quads.shape == (len(windows.inputs),)
    taken = windows.inputs[windows.inputs >= 0]
    assert sorted(taken) == list(range(int(np.prod(case.kernel[1:]))))
    where, byte = np.nonzero(windows.inputs >= 0)
    t, h, w, c = np.unravel_index(windows.inputs[where, byte], case.kernel[1:])
    place = (t - conv.pad[0]) * layout.time + (h - conv.pad[1]) * layout.row + (w - conv.pad[2]) * layout.pixel
    np.testing.assert_array_equal(windows.offsets[where] + byte, place + conv.channel + c)
    last = [int(np.flatnonzero(one >= 0)[-1]) for one in windows.inputs]
    np.testing.assert_array_equal(windows.quads, np.array(last) // 4 + 1)


@settings(deadline=None)
@given(_cases())
def test_packed_weights_times_windows_are_the_convolution(case: _Case) -> None:
    rng, layout, conv = np.random.default_rng(case.seed), case.layout, case.conv
    weights = rng.integers(-128, 128, case.kernel, np.int8)
    windows = windows_of(conv, case.kernel, layout)
    packed = packed_weights(weights, windows)
    memory = random_bytes(rng, layout.before + 5 * layout.time + WINDOW)
    taken = memory[layout.before + windows.offsets[:, None] + np.arange(WINDOW)].reshape(-1, 16, 4).astype(np.int64)
    sums = np.einsum("wqi,twqoi->to", taken, packed.astype(np.int64)).reshape(-1)
    outputs, *taps, inputs = case.kernel
    t, h, w = (index.ravel() - pad for index, pad in zip(np.indices(taps), conv.pad, strict=True))
    place = layout.before + t * layout.time + h * layout.row + w * layout.pixel + conv.channel
    read = memory[place[:, None] + np.arange(inputs)].astype(np.int64).ravel()
    np.testing.assert_array_equal(sums[:outputs], weights.reshape(outputs, -1) @ read)
    assert not sums[outputs:].any()


@settings(deadline=None)
@given(_cases())
def test_the_bias_of_a_zero_point_is_what_it_adds_to_every_sum(case: _Case) -> None:
    weights = np.random.default_rng(case.seed).integers(-128, 128, case.kernel, np.int8)
    wide = weights.reshape(len(weights), -1).astype(np.int64)
    np.testing.assert_array_equal(zero_point_bias(weights, 128), wide @ np.full(wide.shape[1], 128))
    assert not zero_point_bias(weights, 0).any()


def test_pixels_lie_where_a_convolution_takes_fewest_windows() -> None:
    """Three taps of 20 channels fit one window side by side, not with 64 bytes a pixel."""
    made = Building()
    source, to = made.place((2, 4, 4), 20, 0), made.place((2, 4, 4), 16, 0)
    factor = made.tensor(np.ones(16, np.float32))
    store = Store(first=0, last=16, to=to, channel=0, relu=False, scale=factor, bias=factor)
    weights = made.tensor(np.ones((16, 3, 3, 3, 20), np.int8))
    conv = Conv(features=source, weights=weights, stride=(1, 1, 1), pad=(1, 1, 1), out=(2, 4, 4), stores=(store,))
    made.steps.append(conv)
    program, _ = made.made(made.array((1, 1, 1, 1)))
    layout = layouts(program, made.tensors)[source]
    assert layout.pixel == 20
    assert layout.row == (4 + 1) * 20  # the margin behind a row is the one before the next
    assert layout.time == (4 + 1) * layout.row
    assert layout.before % WINDOW == 0
    assert layout.before >= layout.time + layout.row + layout.pixel
    assert len(windows_of(conv, (16, 3, 3, 3, 20), layout).offsets) == 3 * 3


def test_sizes_are_those_of_onnx() -> None:
    assert out_size((16, 112, 112), (3, 7, 7), (1, 2, 2), (1, 3, 3, 1, 3, 3)) == (16, 56, 56)
    assert out_size((5, 5, 5), (2, 2, 2), (2, 2, 2), (0,) * 6) == (2, 2, 2)
