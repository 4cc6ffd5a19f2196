"""Recorded videos: every frame once, in order, with a time stamp that can be relied on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from edgeact.errors import MissingVideoError, VideoError
from edgeact.video.frame import Frame, Image, bgr_to_rgb

__all__ = ["RecordedSource", "StampClock", "open_recorded"]

_FALLBACK_FPS = 25.0
_MAX_GAP_S = 600.0
_MAX_FRAMES = 1 << 31


class StampClock:
    """Turns a container's time stamps into strictly increasing seconds since the first frame.

    A stamp that is missing, not later than the one before, or more than ten minutes ahead is replaced by the time
    of the frame before plus one frame interval of the header's rate (25 fps where the header states no sane one).
    `repaired` counts those frames.
    """

    def __init__(self, header_fps: float) -> None:
        sane = math.isfinite(header_fps) and 1.0 <= header_fps <= 240.0
        self.interval_s = 1.0 / (header_fps if sane else _FALLBACK_FPS)
        self.repaired = 0
        self._origin_s: float | None = None
        self._last_s = 0.0

    def tick(self, stamp_ms: float) -> float:
        """The time in seconds of the next frame, whose container stamp is `stamp_ms`."""
        if self._origin_s is None:
            self._origin_s = stamp_ms / 1e3 if math.isfinite(stamp_ms) else 0.0
            return 0.0
        time_s = stamp_ms / 1e3 - self._origin_s
        if not self._last_s < time_s <= self._last_s + _MAX_GAP_S:
            time_s = self._last_s + self.interval_s
            self.repaired += 1
        self._last_s = time_s
        return time_s


class RecordedSource:
    """Frames of a finite video. Iterate it once, and use it as a context manager or call `close`.

    Every frame has the size of the first one: a stream that changes its size is stretched back to it.
    """

    live = False

    def __init__(self, capture: cv2.VideoCapture, name: str) -> None:
        self.name = name
        self._capture = capture
        self._clock = StampClock(capture.get(cv2.CAP_PROP_FPS))
        self._size: tuple[int, int] | None = None

    @property
    def repaired_stamps(self) -> int:
        """How many frames so far had a missing or impossible time stamp."""
        return self._clock.repaired

    @property
    def rotation_degrees(self) -> int:
        """How far the container asks to turn the frames; already done to what `image` returns."""
        return int(self._capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360

    @property
    def header_frames(self) -> int:
        """How many frames the header promises; 0 where it promises nothing sane."""
        stated = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return int(stated) if 0 < stated < _MAX_FRAMES else 0

    @property
    def header_interval_s(self) -> float:
        """Seconds between two frames as the header states it; 1/25 s where it states nothing sane."""
        return self._clock.interval_s

    def advance(self) -> float | None:
        """Decode the next frame without converting it; its time in seconds, or None at the end."""
        if not self._capture.grab():
            return None
        return self._clock.tick(self._capture.get(cv2.CAP_PROP_POS_MSEC))

    def image(self) -> Image | None:
        """The frame that `advance` decoded as a new RGB uint8 (H, W, 3); None where it cannot be converted."""
        retrieved, image = self._capture.retrieve()
        if not retrieved or image is None:
            return None
        rgb = bgr_to_rgb(image)
        if self._size is None:
            self._size = rgb.shape[0], rgb.shape[1]
        return fit(rgb, self._size)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        while (time_s := self.advance()) is not None:
            image = self.image()
            if image is not None:
                return Frame(image, time_s)
        if self._size is None:
            raise VideoError(no_frame_message(self.name))
        raise StopIteration

    def close(self) -> None:
        """Release the decoder; calling it again does nothing."""
        self._capture.release()

    def __enter__(self) -> RecordedSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_recorded(path: str | Path) -> RecordedSource:
    """Open a video file. The rotation its container asks for is applied.

    Raises VideoError where the file is missing, empty or no video that OpenCV can decode. A file that opens but
    holds no decodable frame raises it on the first frame.
    """
    file = Path(path)
    if not file.is_file():
        if file.is_dir():
            raise VideoError(f"no video at '{file}': expected a file, got a folder")
        raise MissingVideoError(f"no video at '{file}': expected a file, got nothing")
    size_bytes = file.stat().st_size
    capture = cv2.VideoCapture(str(file), _file_backend())
    if not capture.isOpened():
        raise VideoError(
            f"cannot open '{file}': expected a video that OpenCV can decode, got {size_bytes} bytes that it cannot; "
            f"check the file, or re-encode it: ffmpeg -i '{file}' -c:v libx264 fixed.mp4"
        )
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return RecordedSource(capture, str(file))


def fit(image: Image, size: tuple[int, int]) -> Image:
    """`image` itself where its (height, width) is `size` already, else stretched to it."""
    if image.shape[:2] == size:
        return image
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def no_frame_message(name: str) -> str:
    """What to tell about a video that opened but gave nothing."""
    return f"'{name}' holds no frame that can be decoded: expected at least 1, got 0; leave it out or re-encode it"


def _file_backend() -> int:
    """FFmpeg where this OpenCV has it: the other backends guess image sequences from a file's name."""
    has_ffmpeg = cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG)
    return int(cv2.CAP_FFMPEG if has_ffmpeg else cv2.CAP_ANY)
