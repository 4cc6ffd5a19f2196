"""Recorded videos: every frame once, in order, with a reliable time stamp."""

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
    """Converts a container's time stamps to strictly increasing seconds since the first frame.

    A stamp that is missing, not later than the previous one, or more than ten minutes ahead is replaced by the
    previous time plus one frame interval of the header's rate (25 fps if the header states no plausible rate).
    `repaired` counts these frames.
    """

    def __init__(self, header_fps: float) -> None:
        is_plausible = math.isfinite(header_fps) and 1.0 <= header_fps <= 240.0
        self.interval_s = 1.0 / (header_fps if is_plausible else _FALLBACK_FPS)
        self.repaired = 0
        self._origin_s: float | None = None
        self._last_s = 0.0

    def tick(self, stamp_ms: float) -> float:
        """Return the time in seconds of the next frame, whose container stamp is `stamp_ms`."""
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
    """Frames of a finite video. Iterate it only once, and use it as a context manager or call `close`.

    Every frame has the size of the first one: if a stream changes its size, later frames are resized.
    """

    live = False

    def __init__(self, capture: cv2.VideoCapture, name: str) -> None:
        self.name = name
        self._capture = capture
        self._clock = StampClock(capture.get(cv2.CAP_PROP_FPS))
        self._size: tuple[int, int] | None = None

    @property
    def repaired_stamps(self) -> int:
        """Number of frames so far with a missing or implausible time stamp."""
        return self._clock.repaired

    @property
    def rotation_degrees(self) -> int:
        """Rotation that the container requests; `image` applies it already."""
        return int(self._capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360

    @property
    def header_frames(self) -> int:
        """Number of frames that the header states; 0 if it states no plausible number."""
        stated = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return int(stated) if 0 < stated < _MAX_FRAMES else 0

    @property
    def header_interval_s(self) -> float:
        """Seconds between two frames by the header; 1/25 s if it states no plausible rate."""
        return self._clock.interval_s

    def advance(self) -> float | None:
        """Decode the next frame without conversion; return its time in seconds, or None at the end."""
        if not self._capture.grab():
            return None
        return self._clock.tick(self._capture.get(cv2.CAP_PROP_POS_MSEC))

    def image(self) -> Image | None:
        """Return the frame that `advance` decoded as a new RGB uint8 (H, W, 3), or None if it cannot be converted."""
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
        """Release the decoder; another call does nothing."""
        self._capture.release()

    def __enter__(self) -> RecordedSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_recorded(path: str | Path) -> RecordedSource:
    """Open a video file; the rotation that its container requests is applied.

    Raises VideoError if the file is missing, empty or not a video that OpenCV can decode. For a file that opens but
    contains no decodable frame, the first `next` raises it.
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
            f"cannot open '{file}': expected a video that OpenCV can decode, got {size_bytes} bytes of another kind; "
            f"check the file, or re-encode it: ffmpeg -i '{file}' -c:v libx264 fixed.mp4"
        )
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return RecordedSource(capture, str(file))


def fit(image: Image, size: tuple[int, int]) -> Image:
    """Return `image` resized to (height, width) `size`, or `image` itself if it has that size."""
    if image.shape[:2] == size:
        return image
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def no_frame_message(name: str) -> str:
    """Return the message for a video that opened but has no frame."""
    return f"'{name}': expected at least 1 frame that can be decoded, got 0; remove the video or encode it again"


def _file_backend() -> int:
    """Return FFmpeg if this OpenCV has it: other backends take some file names for image sequences."""
    has_ffmpeg = cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG)
    return int(cv2.CAP_FFMPEG if has_ffmpeg else cv2.CAP_ANY)
