"""Preprocessing: from decoded frames to the network's input, by the clip contract."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeact.clip import ClipSpec
from edgeact.errors import InputError
from edgeact.video.frame import Image

__all__ = ["Preprocessor", "center_crop", "preprocess", "resize_frame"]

_INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}


def preprocess(
    frames: Image | Sequence[Image],
    clip: ClipSpec,
    out: NDArray[np.float32] | None = None,
    *,
    order: Literal["rgb", "bgr"] = "rgb",
) -> NDArray[np.float32]:
    """Convert T frames, uint8 (H, W, 3) with channels in `order`, to the network input float32 (1, 3, T, h, w).

    Resize to `clip.resize`, center crop, `(pixel / 255 - mean) / std` in the model's channel order. The resized pixels
    are uint8; their normalization is the float64 formula, rounded once. Writes into `out`, which the caller owns and
    may reuse, and returns it; without `out` into a new array. Raises InputError for frames or `out` of another shape
    or dtype.
    """
    return Preprocessor(clip, out)(frames, order=order)


class Preprocessor:
    """`preprocess` for one clip contract and one output buffer; only one call at a time.

    All views are made once, and two threads process half of the frames each: beside a model that fills the caches,
    new Python objects cost time, and so do bytes that one core writes and another one reads.
    """

    def __init__(self, clip: ClipSpec, out: NDArray[np.float32] | None = None, *, threads: int = 1) -> None:
        """Write to `out`, float32 of the clip's shape, which the caller owns; raises InputError for another array.

        At most two of `threads` are used, including the caller's.
        """
        self._clip = clip
        self.out = np.empty(clip.input_shape, np.float32) if out is None else _checked_out(out, clip)
        planes, half = _planes((clip.clip_frames, *clip.crop)), (clip.clip_frames + 1) // 2
        cuts = (half,) if threads > 1 and clip.clip_frames > 1 else ()
        edges = (0, *cuts, clip.clip_frames)
        self._ranges = [_FrameRange(clip, planes, self.out, slice(*edge)) for edge in itertools.pairwise(edges)]
        self._pool = ThreadPoolExecutor(1, "edgeact-preprocess") if cuts else None

    def __call__(self, frames: Image | Sequence[Image], *, order: Literal["rgb", "bgr"] = "rgb") -> NDArray[np.float32]:
        """Preprocess frames as `preprocess` does; returns `out`, which the next call overwrites."""
        _check_frames(frames, self._clip)
        first, *rest = self._ranges
        futures = [self._pool.submit(each.fill, frames, order) for each in rest] if self._pool else []
        try:
            first.fill(frames, order)
        finally:  # no thread writes to the buffer after this returns or raises
            for future in futures:
                future.result()
        return self.out

    def close(self) -> None:
        """End the second thread, if there is one."""
        if self._pool:
            self._pool.shutdown()


class _FrameRange:
    """A range of a clip's frames, with the memory that one thread works in."""

    def __init__(self, clip: ClipSpec, planes: Sequence[Image], out: NDArray[np.float32], span: slice) -> None:
        self._clip, self._span, width = clip, span, clip.crop[1]
        self._resized: Image = np.empty((*clip.resize, 3), np.uint8)
        self._cropped = center_crop(self._resized, clip)
        in_model_order = [[plane[index] for plane in planes] for index in range(span.start, span.stop)]
        self._channels = {clip.channel_order: in_model_order}
        self._channels["bgr" if clip.channel_order == "rgb" else "rgb"] = [each[::-1] for each in in_model_order]
        self._levels = [
            (plane[span].reshape(-1, width), table, channel[span].reshape(-1, width))
            for plane, table, channel in zip(planes, _tables(clip.mean, clip.std), out[0], strict=True)
        ]

    def fill(self, frames: Image | Sequence[Image], order: Literal["rgb", "bgr"]) -> None:
        """Write this range of the clip's frames to the output."""
        for index, channels in enumerate(self._channels[order], start=self._span.start):
            frame = frames[index]
            is_resized = resize_frame(frame, self._clip, self._resized) is not frame
            cv2.split(self._cropped if is_resized else center_crop(frame, self._clip), channels)
        # A table of 256 values is exact and, applied to a whole channel at once, as fast as multiply and add.
        for plane, table, channel in self._levels:
            cv2.LUT(plane, table, channel)


def resize_frame(frame: Image, clip: ClipSpec, out: Image | None = None) -> Image:
    """Resize a frame uint8 (H, W, 3) to `clip.resize`, without crop; return the frame itself if it has that size.

    Writes into `out`, of that size, if given.
    """
    height, width = clip.resize
    if frame.shape[:2] == clip.resize:
        return frame
    resized = cv2.resize(frame, (width, height), dst=out, interpolation=_INTERPOLATIONS[clip.interpolation])
    return np.asarray(resized, dtype=np.uint8)


def center_crop(frame: Image, clip: ClipSpec) -> Image:
    """Return the center of a frame uint8 (H, W, 3) of size `clip.resize`: a view of size `clip.crop`."""
    height, width = clip.resize
    top, left = (height - clip.crop[0]) // 2, (width - clip.crop[1]) // 2
    return frame[top : top + clip.crop[0], left : left + clip.crop[1]]


def _planes(size: tuple[int, int, int]) -> list[Image]:
    """Allocate three uint8 (T, H, W) at addresses that differ modulo 64.

    Into planes of equal alignment OpenCV's split writes past the cache, and the following LUT waits for memory.
    """
    volume = size[0] * size[1] * size[2]
    stride = volume + (1 - volume) % 64
    buffer = np.empty(3 * stride, np.uint8)
    return [buffer[start : start + volume].reshape(size) for start in (0, stride, 2 * stride)]


@functools.lru_cache(maxsize=16)
def _tables(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """Return the normalized value of every pixel value, float32 (3, 256)."""
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
        raise InputError(f"out: expected float32 of shape {clip.input_shape}, got {out.dtype} of shape {out.shape}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise InputError(
            "out: expected a writeable C-contiguous array; make one with numpy.empty(shape, numpy.float32)"
        )
    return out
