"""The one preprocessing: from decoded frames to the network's input, by the clip contract."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeact.clip import ClipSpec
from edgeact.errors import InputError
from edgeact.video.frame import Image

__all__ = ["preprocess", "resize_frame"]

_INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}


def preprocess(
    frames: Image | Sequence[Image],
    clip: ClipSpec,
    out: NDArray[np.float32] | None = None,
    *,
    order: Literal["rgb", "bgr"] = "rgb",
) -> NDArray[np.float32]:
    """T frames, uint8 (H, W, 3) with channels in `order`, as the network takes them: float32 (1, 3, T, h, w).

    Stretch to `clip.resize`, centre crop, `(pixel / 255 - mean) / std` in the model's channel order. The resized
    pixels are uint8; their normalisation is the float64 formula rounded once. Writes into `out`, which the caller
    owns and may reuse, and returns it; without `out` a new array. Raises InputError where the frames or `out` are
    not of the shape and dtype stated.
    """
    _check_frames(frames, clip)
    out = np.empty(clip.input_shape, np.float32) if out is None else _checked_out(out, clip)
    height, width = clip.crop
    resized, planes = np.empty((*clip.resize, 3), np.uint8), _planes((clip.clip_frames, height, width))
    channels = planes if order == clip.channel_order else planes[::-1]
    for index, frame in enumerate(frames):
        cv2.split(_cropped(resize_frame(frame, clip, resized), clip), [channel[index] for channel in channels])
    # A table of 256 values is exact and, applied to a whole channel at once, as fast as multiply and add.
    for channel, table in enumerate(_tables(clip.mean, clip.std)):
        cv2.LUT(planes[channel].reshape(-1, width), table, out[0, channel].reshape(-1, width))
    return out


def resize_frame(frame: Image, clip: ClipSpec, out: Image | None = None) -> Image:
    """A frame uint8 (H, W, 3) stretched to `clip.resize`, not yet cropped; the frame itself where it has that size.

    Written into `out` of that size, where given.
    """
    height, width = clip.resize
    if frame.shape[:2] == clip.resize:
        return frame
    resized = cv2.resize(frame, (width, height), dst=out, interpolation=_INTERPOLATIONS[clip.interpolation])
    return np.asarray(resized, dtype=np.uint8)


def _cropped(frame: Image, clip: ClipSpec) -> Image:
    height, width = clip.resize
    top, left = (height - clip.crop[0]) // 2, (width - clip.crop[1]) // 2
    return frame[top : top + clip.crop[0], left : left + clip.crop[1]]


def _planes(size: tuple[int, int, int]) -> list[Image]:
    """Three uint8 (T, H, W) at addresses that differ modulo 64.

    Into planes aligned alike OpenCV's split writes past the cache, and the look-up behind it waits for the memory.
    """
    volume = size[0] * size[1] * size[2]
    stride = volume + (1 - volume) % 64
    buffer = np.empty(3 * stride, np.uint8)
    return [buffer[start : start + volume].reshape(size) for start in (0, stride, 2 * stride)]


@functools.lru_cache(maxsize=16)
def _tables(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """The normalised value of every pixel value, float32 (3, 256)."""
    levels = np.arange(256, dtype=np.float64) / 255.0
    tables: NDArray[np.float64] = (levels - np.array(mean)[:, None]) / np.array(std)[:, None]
    return tables.astype(np.float32)


def _check_frames(frames: Image | Sequence[Image], clip: ClipSpec) -> None:
    if len(frames) != clip.clip_frames:
        raise InputError(f"expected {clip.clip_frames} frames (clip_frames), got {len(frames)}")
    if isinstance(frames, np.ndarray) and frames.dtype == np.uint8 and frames.shape[3:] == (3,) and frames.size:
        return
    for index, frame in enumerate(frames):
        if not isinstance(frame, np.ndarray):
            raise InputError(f"frame {index}: expected a uint8 array (height, width, 3), got {type(frame).__name__}")
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
            raise InputError(
                f"frame {index}: expected uint8 of shape (height, width, 3), got {frame.dtype} of shape {frame.shape}"
            )


def _checked_out(out: NDArray[np.float32], clip: ClipSpec) -> NDArray[np.float32]:
    if out.shape != clip.input_shape or out.dtype != np.float32:
        raise InputError(
            f"expected an output buffer float32 of shape {clip.input_shape}, got {out.dtype} of shape {out.shape}"
        )
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise InputError("the output buffer must be writeable and contiguous; make one with numpy.empty(shape)")
    return out
