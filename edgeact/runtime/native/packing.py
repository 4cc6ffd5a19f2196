"""Memory layout of buffers, and convolution weights in the order in which the engine's dot products read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeact.errors import ModelError
from edgeact.runtime.native.program import Buffer, Conv, Program, Size3, Tensors

__all__ = [
    "WINDOW_BYTES",
    "MemoryLayout",
    "Windows",
    "buffer_layouts",
    "conv_out_size",
    "conv_quads",
    "conv_windows",
    "frame_windows",
    "pack_weights",
    "zero_point_bias",
]

WINDOW_BYTES = 64
"""Bytes of a buffer that one dot-product step reads: a row of an AMX tile."""
_TILE_OUTPUTS = 16
_QUAD_BYTES = 4
_MAX_BUFFER_BYTES = 1 << 31
_BLOCK_POSITIONS = 64  # pixels that the engine computes at once; the last block of a line runs past its end
_ALIGNED_STRIDES = (4, 16, 32, 64)

KernelShape = tuple[int, ...]
"""Shape of convolution weights: (outputs, kT, kH, kW, inputs)."""


@dataclass(frozen=True)
class MemoryLayout:
    """Strides of a buffer in bytes. Each axis is padded in front only: that padding also ends the line before."""

    time_stride: int
    row_stride: int
    pixel_stride: int
    lead_bytes: int
    """Padding before the first value, a multiple of 64."""
    total_bytes: int
    """Whole allocation, including what the engine reads past the last value."""


@dataclass(frozen=True)
class Windows:
    """The im2col row of one output, in windows of 64 bytes that are read from the buffer in place."""

    offsets: npt.NDArray[np.int32]
    """Start of each window in bytes from the output's first input value, (windows,)."""
    weights: npt.NDArray[np.int64]
    """Index of each byte's weight in the flattened (kT, kH, kW, inputs), -1 without one; (windows, 64)."""


def buffer_layouts(program: Program, tensors: Tensors) -> list[MemoryLayout]:
    """Return the memory layout of every buffer: padded for its convolutions, with the pixel stride that costs least.

    Raises ModelError if a buffer takes 2 GiB or more: offsets within a buffer have 32 bits.
    """
    readers: dict[int, list[tuple[Conv, KernelShape]]] = {}
    for instruction in program.instructions:
        if isinstance(instruction, Conv):
            kernel = tensors[instruction.weights].shape
            readers.setdefault(instruction.buffer, []).append((instruction, kernel))
    layouts = []
    for index, buffer in enumerate(program.buffers):
        layout = _layout(buffer, readers.get(index, []))
        if layout.total_bytes >= _MAX_BUFFER_BYTES:
            raise ModelError(
                f"buffer {index} of the native program takes {layout.total_bytes} bytes with its padding, expected "
                f"less than {_MAX_BUFFER_BYTES}; export the model for smaller clips, or use another artifact"
            )
        layouts.append(layout)
    return layouts


def _layout(buffer: Buffer, readers: list[tuple[Conv, KernelShape]]) -> MemoryLayout:
    pixel_stride = min(_pixel_strides(buffer.channels), key=lambda stride: _cost(stride, readers))
    before, behind, conv_stride = [0, 0, 0], [0, 0, 0], 1
    for conv, kernel in readers:
        conv_stride = max(conv_stride, conv.stride[2])
        for axis in range(3):
            end = (conv.out_size[axis] - 1) * conv.stride[axis] + kernel[1 + axis] - conv.padding[axis]
            before[axis] = max(before[axis], conv.padding[axis])
            behind[axis] = max(behind[axis], end - buffer.size[axis])
    frames, rows, pixels = buffer.size
    row_stride = (pixels + max(before[2], behind[2])) * pixel_stride
    time_stride = (rows + max(before[1], behind[1])) * row_stride
    lead = before[0] * time_stride + before[1] * row_stride + before[2] * pixel_stride
    lead += -lead % WINDOW_BYTES
    values = (frames + behind[0]) * time_stride + behind[1] * row_stride + behind[2] * pixel_stride
    overrun = (_BLOCK_POSITIONS + 1) * pixel_stride * conv_stride + WINDOW_BYTES
    return MemoryLayout(time_stride, row_stride, pixel_stride, lead, lead + values + overrun)


def _pixel_strides(channels: int) -> list[int]:
    return sorted({channels, *(channels + -channels % unit for unit in _ALIGNED_STRIDES)})


def _cost(pixel_stride: int, readers: list[tuple[Conv, KernelShape]]) -> tuple[int, float]:
    """Return the windows of all readers; among equals, aligned pixels load faster and short ones save memory."""
    windows = sum(
        len(_row_windows(pixel_stride, conv.channel, kernel)) * kernel[1] * kernel[2] for conv, kernel in readers
    )
    alignment = 16 if pixel_stride % 64 == 0 else 8 if pixel_stride % 32 == 0 else 4 if pixel_stride % 16 == 0 else 1
    return windows, pixel_stride / alignment


def _row_windows(pixel_stride: int, channel: int, kernel: KernelShape) -> list[int]:
    """Return where windows begin that cover one row of taps, in bytes from the row's first pixel; none overlap."""
    begins: list[int] = []
    for tap in range(kernel[3]):
        first = tap * pixel_stride + channel
        last = first + kernel[4]
        position = max(first, begins[-1] + WINDOW_BYTES) if begins else first
        while position < last:
            begins.append(position)
            position += WINDOW_BYTES
    return begins


def conv_windows(conv: Conv, kernel: KernelShape, layout: MemoryLayout) -> Windows:
    """Cut the bytes that one output of `conv` reads into windows of 64 bytes.

    The taps of one kernel row lie in memory one pixel stride apart, so a few windows cover the row, whatever taps and
    channels share a window. All kT * kH rows of the kernel use the same cover at other offsets.

    Example: kernel (8, 2, 1, 3, 24), so 2 rows of 3 taps with 24 channels; pixel stride 32, no padding, channel 0.

    * Tap `w`, channel `c` is byte 32 * w + c of its row: bytes 0..23, 32..55 and 64..87 have weights.
    * Windows begin at byte 0 (taps 0 and 1) and at byte 64 (tap 2).
    * Byte 33 of the first window is tap 1, channel 1: weight 1 * 24 + 1 = 25 of the row. Byte 24 has none: -1.
    * Quads 0 to 5 and 8 to 13 of the first window have weights, and 0 to 5 of the second (`conv_quads`).
    * Offsets are 0 and 64 for the first frame, `time_stride` and `time_stride + 64` for the second, whose weights
      begin at 3 * 24 = 72.
    """
    _, frame_taps, row_taps, taps, inputs = kernel
    begins = np.array(_row_windows(layout.pixel_stride, conv.channel, kernel), np.int64)
    byte_in_row = begins[:, None] + np.arange(WINDOW_BYTES)
    tap = byte_in_row // layout.pixel_stride
    channel = byte_in_row % layout.pixel_stride - conv.channel
    has_weight = (tap < taps) & (channel >= 0) & (channel < inputs)
    weight_in_row = np.where(has_weight, tap * inputs + channel, -1)

    row = np.arange(frame_taps * row_taps)
    frame_tap, row_tap = np.divmod(row, row_taps)
    padding_time, padding_row, padding_pixel = conv.padding
    row_offset = (frame_tap - padding_time) * layout.time_stride + (row_tap - padding_row) * layout.row_stride
    offsets = row_offset[:, None] + begins - padding_pixel * layout.pixel_stride
    weights = np.where(has_weight, row[:, None, None] * (taps * inputs) + weight_in_row, -1)
    return Windows(
        offsets=offsets.reshape(-1).astype(np.int32),
        weights=weights.reshape(-1, WINDOW_BYTES),
    )


def conv_quads(windows: Windows) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the quads, groups of 4 bytes, that have a weight, and the first quad of each window.

    A quad is the offset of its bytes from the output's first input value, and the offset of its weights in a tile of
    `pack_weights`: int32 (quads, 2). The second array ends with the number of quads: int32 (windows + 1,).
    """
    has_weight = (windows.weights.reshape(len(windows.weights), -1, _QUAD_BYTES) >= 0).any(2)
    window, quad = np.nonzero(has_weight)
    inputs = windows.offsets[window] + quad * _QUAD_BYTES
    weights = window * WINDOW_BYTES * _TILE_OUTPUTS + quad * _QUAD_BYTES * _TILE_OUTPUTS
    first = np.concatenate(([0], np.cumsum(has_weight.sum(1))))
    return np.stack((inputs, weights), 1).astype(np.int32), first.astype(np.int32)


def frame_windows(conv: Conv, kernel: KernelShape, buffer: Buffer, windows: int) -> npt.NDArray[np.int32]:
    """Return the windows that each output frame reads: the first one and the end, int32 (out T, 2).

    The windows of the other temporal taps hold padding only. If it is 0, so are their products; a zero point of 128 is
    subtracted with all weights (`zero_point_bias`), so all windows are read.
    """
    taps = kernel[1]
    begins = np.arange(conv.out_size[0]) * conv.stride[0] - conv.padding[0]
    first, last = np.zeros_like(begins), np.full_like(begins, taps)
    if buffer.zero_point == 0:
        last = np.clip(buffer.size[0] - begins, 0, taps)
        first = np.minimum(np.clip(-begins, 0, taps), last)
    return (np.stack((first, last), 1) * (windows // taps)).astype(np.int32)


def pack_weights(weights: npt.NDArray[np.generic], windows: Windows) -> npt.NDArray[np.int8]:
    """Return int8 (tiles of 16 outputs, windows, 16 quads, 16 outputs, 4 bytes); bytes without a weight are zero."""
    outputs = len(weights)
    tiles = -(-outputs // _TILE_OUTPUTS)
    flat = np.zeros((tiles * _TILE_OUTPUTS, int(np.prod(weights.shape[1:])) + 1), np.int8)
    flat[:outputs, :-1] = weights.reshape(outputs, -1)  # index -1 is the column of zeros
    packed = flat[:, windows.weights].reshape(tiles, _TILE_OUTPUTS, -1, 16, 4)
    return np.ascontiguousarray(packed.transpose(0, 2, 3, 1, 4))


def zero_point_bias(weights: npt.NDArray[np.generic], zero_point: int) -> npt.NDArray[np.float32]:
    """Return what the input's zero point adds to every integer sum, float32 (outputs,)."""
    sums: npt.NDArray[np.int64] = weights.reshape(len(weights), -1).sum(1, dtype=np.int64)
    return (sums * zero_point).astype(np.float32)


def conv_out_size(size: Size3, kernel: Size3, stride: Size3, pads: tuple[int, ...]) -> Size3:
    """Return the output size of an ONNX convolution, rounded down; `pads` holds 3 begins, then 3 ends."""
    time, height, width = (
        (extent + pads[axis] + pads[axis + 3] - kernel[axis]) // stride[axis] + 1 for axis, extent in enumerate(size)
    )
    return time, height, width
