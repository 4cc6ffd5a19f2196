"""The one preprocessing: from decoded frames to the network's input, by the clip contract."""

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

__all__ = ["Preprocessor", "preprocess", "resize_frame"]

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
    return Preprocessor(clip, out)(frames, order=order)


class Preprocessor:
    """`preprocess` for one clip contract, again and again into one buffer; one call at a time.

    All views are made once, and the frames are halved between two threads: beside a model that fills the caches, each
    object that Python touches anew costs time, and each byte that one core writes and another one reads.
    """

    def __init__(self, clip: ClipSpec, out: NDArray[np.float32] | None = None, *, threads: int = 1) -> None:
        """Into `out`, float32 of the clip's shape, which the caller owns; InputError where it is another.

        Of `threads` at most two are used, the caller's among them.
        """
        self._clip = clip
        self.out = np.empty(clip.input_shape, np.float32) if out is None else _checked_out(out, clip)
        planes, half = _planes((clip.clip_frames, *clip.crop)), (clip.clip_frames + 1) // 2
        cuts = (half,) if threads > 1 and clip.clip_frames > 1 else ()
        edges = (0, *cuts, clip.clip_frames)
        self._parts = [_Part(clip, planes, self.out, slice(*edge)) for edge in itertools.pairwise(edges)]
        self._pool = ThreadPoolExecutor(1, "edgeact-preprocess") if cuts else None

    def __call__(self, frames: Image | Sequence[Image], *, order: Literal["rgb", "bgr"] = "rgb") -> NDArray[np.float32]:
        """Frames as `preprocess` takes them; the result is `out`, good until the next call."""
        _check_frames(frames, self._clip)
        first, *rest = self._parts
        others = [self._pool.submit(part.fill, frames, order) for part in rest] if self._pool else []
        try:
            first.fill(frames, order)
        finally:  # nobody writes to the buffer any more when this returns, or raises
            for other in others:
                other.result()
        return self.out

    def close(self) -> None:
        """End the second thread; a preprocessor of one needs no end."""
        if self._pool:
            self._pool.shutdown()


class _Part:
    """Frames `when` of a clip, with the memory that one thread works in."""

    def __init__(self, clip: ClipSpec, planes: Sequence[Image], out: NDArray[np.float32], when: slice) -> None:
        self._clip, self._when, width = clip, when, clip.crop[1]
        self._resized: Image = np.empty((*clip.resize, 3), np.uint8)
        self._cropped = _cropped(self._resized, clip)
        as_given = [[plane[index] for plane in planes] for index in range(when.start, when.stop)]
        self._channels = {clip.channel_order: as_given}
        self._channels["bgr" if clip.channel_order == "rgb" else "rgb"] = [each[::-1] for each in as_given]
        self._levels = [
            (plane[when].reshape(-1, width), table, channel[when].reshape(-1, width))
            for plane, table, channel in zip(planes, _tables(clip.mean, clip.std), out[0], strict=True)
        ]

    def fill(self, frames: Image | Sequence[Image], order: Literal["rgb", "bgr"]) -> None:
        """Write its frames, of all of a clip, to the output."""
        for index, channels in enumerate(self._channels[order], start=self._when.start):
            frame = frames[index]
            is_resized = resize_frame(frame, self._clip, self._resized) is not frame
            cv2.split(self._cropped if is_resized else _cropped(frame, self._clip), channels)
        # A table of 256 values is exact and, applied to a whole channel at once, as fast as multiply and add.
        for plane, table, channel in self._levels:
            cv2.LUT(plane, table, channel)


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
