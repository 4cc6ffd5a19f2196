"""How features lie in memory, and convolution weights in the order in which the engine's products read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeact.errors import ModelError
from edgeact.runtime.native.program import Conv, Features, Program, Size3, Tensors

__all__ = ["Layout", "Windows", "layouts", "packed_weights", "windows_of"]

WINDOW = 64
"""Bytes of the input that one product step takes: a row of an AMX tile."""
_OUTPUTS = 16
_LARGEST = 1 << 31  # bytes of one buffer
_POSITIONS = 64  # the engine computes so many pixels at once, the last ones of a line in vain


@dataclass(frozen=True)
class Layout:
    """Strides in bytes of features with a margin of zeros before each axis, which serves the line before as its end."""

    time: int
    row: int
    pixel: int
    before: int
    """Bytes in front of the first value."""
    bytes: int
    """All of it, with what the engine reads in vain behind the end."""


@dataclass(frozen=True)
class Windows:
    """The windows of one convolution: where each begins, and which (tap, channel) every byte of it is."""

    offsets: npt.NDArray[np.int32]
    """Bytes from the first input value of an output, (windows,)."""
    quads: npt.NDArray[np.int32]
    """Groups of 4 bytes up to the last one with a weight, (windows,)."""
    inputs: npt.NDArray[np.int64]
    """Index into the flattened (kT, kH, kW, inputs) of a weight, -1: none; (windows, 64)."""


def layouts(program: Program, tensors: Tensors) -> list[Layout]:
    """One for each of the program's features: the margin that its convolutions need, pixels where they take least.

    Raises ModelError where one takes 2 GiB or more: distances within it have 32 bits.
    """
    readers: dict[int, list[Conv]] = {}
    for step in program.steps:
        if isinstance(step, Conv):
            readers.setdefault(step.features, []).append(step)
    kernels = [tensor.shape for tensor in tensors]
    found = []
    for index, features in enumerate(program.features):
        layout = _layout(features, [(conv, kernels[conv.weights]) for conv in readers.get(index, [])])
        if layout.bytes >= _LARGEST:
            raise ModelError(
                f"features {index} of the native program take {layout.bytes} bytes with their margins, "
                f"the engine takes less than {_LARGEST}; export it for smaller clips, or use another artifact"
            )
        found.append(layout)
    return found


def _layout(features: Features, readers: list[tuple[Conv, tuple[int, ...]]]) -> Layout:
    pixel = min(_pixel_sizes(features.channels), key=lambda size: _cost(size, readers))
    before, behind, stride = [0, 0, 0], [0, 0, 0], 1
    for conv, kernel in readers:
        stride = max(stride, conv.stride[2])
        for axis in range(3):
            last = (conv.out[axis] - 1) * conv.stride[axis] + kernel[1 + axis] - conv.pad[axis]
            before[axis] = max(before[axis], conv.pad[axis])
            behind[axis] = max(behind[axis], last - features.size[axis])
    frames, rows, pixels = features.size
    row = (pixels + max(before[2], behind[2])) * pixel
    time = (rows + max(before[1], behind[1])) * row
    margin = before[0] * time + before[1] * row + before[2] * pixel
    margin += -margin % WINDOW
    end = (frames + behind[0]) * time + behind[1] * row + behind[2] * pixel
    return Layout(time, row, pixel, margin, margin + end + (_POSITIONS + 1) * pixel * stride + WINDOW)


def _pixel_sizes(channels: int) -> list[int]:
    return sorted({channels, *(channels + -channels % unit for unit in (4, 16, 32, 64))})


def _cost(pixel: int, readers: list[tuple[Conv, tuple[int, ...]]]) -> tuple[int, float]:
    """Windows in all; where they are as many, aligned pixels are loaded faster, and small ones take less memory."""
    windows = sum(len(_row_windows(pixel, conv.channel, kernel)) * kernel[1] * kernel[2] for conv, kernel in readers)
    return windows, pixel / (16 if pixel % 64 == 0 else 8 if pixel % 32 == 0 else 4 if pixel % 16 == 0 else 1)


def _row_windows(pixel: int, channel: int, kernel: tuple[int, ...]) -> list[int]:
    """Where windows begin that cover what a row of taps needs, from the row's first pixel on."""
    begins: list[int] = []
    for tap in range(kernel[3]):
        first = tap * pixel + channel
        last = first + kernel[4]
        position = max(first, begins[-1] + WINDOW) if begins else first
        while position < last:
            begins.append(position)
            position += WINDOW
    return begins


def windows_of(conv: Conv, kernel: tuple[int, ...], layout: Layout) -> Windows:
    """The windows of `conv` with weights of the shape `kernel` over features that lie as `layout` says."""
    begins = np.array(_row_windows(layout.pixel, conv.channel, kernel), np.int64)
    _, frames, rows, taps, inputs = kernel
    byte = begins[:, None] + np.arange(WINDOW)
    tap, channel = byte // layout.pixel, byte % layout.pixel - conv.channel
    needed = (tap < taps) & (channel >= 0) & (channel < inputs)
    needed[1:] &= byte[1:] >= begins[:-1, None] + WINDOW  # a byte of two windows belongs to the first
    in_row = np.where(needed, tap * inputs + channel, -1)
    quads = np.array([np.flatnonzero(row)[-1] // 4 + 1 for row in needed], np.int32)
    first = np.arange(frames * rows)
    starts = (first // rows - conv.pad[0]) * layout.time + (first % rows - conv.pad[1]) * layout.row
    offsets = starts[:, None] + begins - conv.pad[2] * layout.pixel
    index = np.where(in_row < 0, -1, first[:, None, None] * taps * inputs + in_row)
    return Windows(offsets.reshape(-1).astype(np.int32), np.tile(quads, frames * rows), index.reshape(-1, WINDOW))


def packed_weights(weights: npt.NDArray[np.generic], windows: Windows) -> npt.NDArray[np.int8]:
    """int8 (tiles of 16 outputs, windows, 16, 16, 4): 4 inputs of 16 outputs side by side; zeros for none."""
    outputs = len(weights)
    tiles = -(-outputs // _OUTPUTS)
    flat = np.zeros((tiles * _OUTPUTS, int(np.prod(weights.shape[1:])) + 1), np.int8)
    flat[:outputs, :-1] = weights.reshape(outputs, -1)
    taken = flat[:, windows.inputs].reshape(tiles, _OUTPUTS, -1, 16, 4)  # index -1 is the column of zeros
    return np.ascontiguousarray(taken.transpose(0, 2, 3, 1, 4))


def zero_point_bias(weights: npt.NDArray[np.generic], zero: int) -> npt.NDArray[np.float32]:
    """What inputs stored with a zero point add to every sum, float32 (outputs,)."""
    sums: npt.NDArray[np.int64] = weights.reshape(len(weights), -1).sum(1, dtype=np.int64)
    return (sums * zero).astype(np.float32)


def out_size(size: Size3, kernel: Size3, stride: Size3, pads: tuple[int, ...]) -> Size3:
    """ONNX's size of a result, rounded down; `pads` are before and behind."""
    found = [(one + pads[axis] + pads[axis + 3] - kernel[axis]) // stride[axis] + 1 for axis, one in enumerate(size)]
    return found[0], found[1], found[2]
