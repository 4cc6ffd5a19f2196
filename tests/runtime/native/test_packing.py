"""Windows hold every weight once, and packed weights times the bytes of the windows are the convolution."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeact.runtime.native.packing import (
    WINDOW_BYTES,
    MemoryLayout,
    buffer_layouts,
    conv_out_size,
    conv_quads,
    conv_windows,
    frame_windows,
    pack_weights,
    zero_point_bias,
)
from edgeact.runtime.native.program import Buffer, Conv, Epilogue, Size3
from tests.runtime.native.making import ProgramBuilder, random_bytes

ONES, ZEROS = (1, 1, 1), (0, 0, 0)


@dataclass(frozen=True)
class _Case:
    conv: Conv
    kernel: tuple[int, ...]
    layout: MemoryLayout
    seed: int


def _conv(channel: int = 0, padding: Size3 = ZEROS) -> Conv:
    epilogue = Epilogue(first=0, last=1, to=0, channel=0, relu=False, scale=0, bias=0)
    return Conv(
        buffer=0, channel=channel, weights=0, stride=ONES, padding=padding, out_size=ONES, epilogues=(epilogue,)
    )


@st.composite
def _cases(draw: st.DrawFn) -> _Case:
    taps = draw(st.tuples(*[st.integers(1, 4)] * 3))
    inputs, outputs = draw(st.integers(1, 70)), draw(st.integers(1, 40))
    channel = draw(st.integers(0, 70))
    pixel_stride = channel + inputs + draw(st.integers(0, 70))
    row_stride = pixel_stride * draw(st.integers(taps[2], 9))
    time_stride = row_stride * draw(st.integers(taps[1], 9))
    padding = (draw(st.integers(0, taps[0] - 1)), draw(st.integers(0, taps[1] - 1)), draw(st.integers(0, taps[2] - 1)))
    layout = MemoryLayout(time_stride, row_stride, pixel_stride, lead_bytes=4 * time_stride, total_bytes=0)
    return _Case(_conv(channel, padding), (outputs, *taps, inputs), layout, draw(st.integers(0, 2**32 - 1)))


@given(_cases())
def test_windows_hold_every_weight_once_at_its_address(case: _Case) -> None:
    windows, layout, padding = conv_windows(case.conv, case.kernel, case.layout), case.layout, case.conv.padding
    assert windows.offsets.shape == (len(windows.weights),)
    indices = windows.weights[windows.weights >= 0]
    assert sorted(indices) == list(range(int(np.prod(case.kernel[1:]))))
    window, byte = np.nonzero(windows.weights >= 0)
    t, h, w, c = np.unravel_index(windows.weights[window, byte], case.kernel[1:])
    row = (t - padding[0]) * layout.time_stride + (h - padding[1]) * layout.row_stride
    address = row + (w - padding[2]) * layout.pixel_stride + case.conv.channel + c
    np.testing.assert_array_equal(windows.offsets[window] + byte, address)


@given(_cases())
def test_quads_are_the_bytes_with_weights(case: _Case) -> None:
    windows = conv_windows(case.conv, case.kernel, case.layout)
    quads, first = conv_quads(windows)
    assert len(first) == len(windows.weights) + 1
    window, byte = np.nonzero(windows.weights >= 0)
    assert set(zip(window, byte // 4, strict=True)) == {
        (weights // 1024, weights % 1024 // 64) for _, weights in quads.tolist()
    }
    for number, (begin, end) in enumerate(itertools.pairwise(first)):
        assert (quads[begin:end, 1] // 1024 == number).all()
        expected = windows.offsets[number] + quads[begin:end, 1] % 1024 // 64 * 4
        np.testing.assert_array_equal(quads[begin:end, 0], expected)


@given(_cases())
def test_packed_weights_times_windows_are_the_convolution(case: _Case) -> None:
    rng, layout = np.random.default_rng(case.seed), case.layout
    weights = rng.integers(-128, 128, case.kernel, np.int8)
    windows = conv_windows(case.conv, case.kernel, layout)
    packed = pack_weights(weights, windows).astype(np.int64)
    memory = random_bytes(rng, layout.lead_bytes + 5 * layout.time_stride + WINDOW_BYTES).astype(np.int64)
    window_bytes = memory[layout.lead_bytes + windows.offsets[:, None] + np.arange(WINDOW_BYTES)]
    sums = np.einsum("wqi,twqoi->to", window_bytes.reshape(-1, 16, 4), packed).reshape(-1)
    outputs, *taps, inputs = case.kernel
    t, h, w = (index.ravel() - pad for index, pad in zip(np.indices(taps), case.conv.padding, strict=True))
    first = layout.lead_bytes + t * layout.time_stride + h * layout.row_stride + w * layout.pixel_stride
    values = memory[first[:, None] + case.conv.channel + np.arange(inputs)].ravel()
    np.testing.assert_array_equal(sums[:outputs], weights.reshape(outputs, -1) @ values)
    assert not sums[outputs:].any()


@given(_cases())
def test_zero_point_bias_is_what_the_zero_point_adds_to_every_sum(case: _Case) -> None:
    weights = np.random.default_rng(case.seed).integers(-128, 128, case.kernel, np.int8)
    wide = weights.reshape(len(weights), -1).astype(np.int64)
    np.testing.assert_array_equal(zero_point_bias(weights, 128), wide @ np.full(wide.shape[1], 128))
    assert not zero_point_bias(weights, 0).any()


def test_the_example_in_the_docstring_of_conv_windows() -> None:
    layout = MemoryLayout(time_stride=1000, row_stride=100, pixel_stride=32, lead_bytes=0, total_bytes=0)
    windows = conv_windows(_conv(), (8, 2, 1, 3, 24), layout)
    assert windows.offsets.tolist() == [0, 64, 1000, 1064]
    quads, first = conv_quads(windows)
    assert first.tolist() == [0, 12, 18, 30, 36]
    assert quads[:12, 0].tolist() == [0, 4, 8, 12, 16, 20, 32, 36, 40, 44, 48, 52]
    assert (windows.weights[0, 33], windows.weights[0, 24]) == (25, -1)
    assert windows.weights[2, 0] == 72


def test_the_pixel_stride_minimizes_the_windows() -> None:
    """Three taps of 20 channels fit into one window at a stride of 20 bytes, but not of 64."""
    builder, kernel = ProgramBuilder(), (16, 3, 3, 3, 20)
    source, to = builder.buffer((2, 4, 4), 20, 0), builder.buffer((2, 4, 4), 16, 0)
    factor = builder.tensor(np.ones(16, np.float32))
    epilogue = Epilogue(first=0, last=16, to=to, channel=0, relu=False, scale=factor, bias=factor)
    weights = builder.tensor(np.ones(kernel, np.int8))
    conv = Conv(buffer=source, weights=weights, stride=ONES, padding=ONES, out_size=(2, 4, 4), epilogues=(epilogue,))
    builder.add(conv)
    program, _ = builder.build(builder.array((1, 1, 1, 1)))
    layout = buffer_layouts(program, builder.tensors)[source]
    assert layout.pixel_stride == 20
    assert layout.row_stride == (4 + 1) * 20  # the padding behind a row is the padding before the next one
    assert layout.time_stride == (4 + 1) * layout.row_stride
    assert layout.lead_bytes % WINDOW_BYTES == 0
    assert layout.lead_bytes >= layout.time_stride + layout.row_stride + layout.pixel_stride
    assert len(conv_windows(conv, kernel, layout).offsets) == 3 * 3


def test_conv_out_size_follows_onnx() -> None:
    assert conv_out_size((16, 112, 112), (3, 7, 7), (1, 2, 2), (1, 3, 3, 1, 3, 3)) == (16, 56, 56)
    assert conv_out_size((5, 5, 5), (2, 2, 2), (2, 2, 2), (0,) * 6) == (2, 2, 2)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.data())
def test_frames_skip_the_temporal_taps_that_meet_padding_only(
    frames: int, taps: int, stride: int, data: st.DataObject
) -> None:
    padding, out_frames = data.draw(st.integers(0, taps - 1)), data.draw(st.integers(1, frames + taps))
    conv = _conv(padding=(padding, 0, 0)).model_copy(update={"stride": (stride, 1, 1), "out_size": (out_frames, 1, 1)})
    rows, kernel = 6, (1, taps, 3, 2, 4)
    ranges = frame_windows(conv, kernel, Buffer(size=(frames, 9, 9), channels=4, zero_point=0), taps * rows)
    for frame, (first, last) in enumerate(ranges):
        reads = {tap for tap in range(taps) if 0 <= frame * stride - padding + tap < frames}
        assert set(range(taps * rows)[first:last]) == {tap * rows + row for tap in reads for row in range(rows)}
    signed = frame_windows(conv, kernel, Buffer(size=(frames, 9, 9), channels=4, zero_point=128), taps * rows)
    assert signed.tolist() == [[0, taps * rows]] * out_frames
