"""Opening a video source: a file, a camera, a network address or a GStreamer pipeline."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import cv2

from edgeact.errors import UsageError, VideoError
from edgeact.video.live import LiveOptions, LiveSource
from edgeact.video.recorded import RecordedSource, open_recorded

__all__ = ["FrameSource", "open_source"]

FrameSource: TypeAlias = RecordedSource | LiveSource
_Note: TypeAlias = Callable[[str], None]


def open_source(
    source: str | int | Path, *, options: LiveOptions | None = None, on_note: _Note | None = None
) -> FrameSource:
    """Open a video source: an iterator of Frames and a context manager.

    `source` is a file (str or Path), a camera (index, digits, or a device such as /dev/video0), an address (rtsp://,
    http://, ...), or a GStreamer pipeline (a str with '!', ending in appsink). An address or pipeline of known length
    is read like a file, with its time stamps; the others are live (see LiveSource). Raises VideoError if the source
    cannot be opened, UsageError for a negative index.
    """
    options = options or LiveOptions()
    if isinstance(source, Path):
        return open_recorded(source)
    if isinstance(source, int) or source.isdecimal():
        return _open_camera(int(source), options, on_note)
    if "://" in source:
        return _open_stream(_address_opener(source, options), _without_password(source), options, on_note)
    if "!" in source and not Path(source).exists():
        return _open_stream(_pipeline_opener(source), source, options, on_note)
    if Path(source).is_char_device():
        return LiveSource(lambda: cv2.VideoCapture(source, cv2.CAP_ANY), source, options, on_note)
    return open_recorded(source)


def _open_camera(index: int, options: LiveOptions, on_note: _Note | None) -> LiveSource:
    if index < 0:
        raise UsageError(f"expected a camera index of 0 or more, got {index}")
    return LiveSource(lambda: cv2.VideoCapture(index), f"camera {index}", options, on_note)


def _open_stream(
    opener: Callable[[], cv2.VideoCapture], name: str, options: LiveOptions, on_note: _Note | None
) -> FrameSource:
    """Open a stream; one of known length is a recording, because reconnecting would play it again."""
    capture = opener()
    if capture.isOpened() and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
        return RecordedSource(capture, name)
    first = [capture]
    return LiveSource(lambda: first.pop() if first else opener(), name, options, on_note)


def _address_opener(address: str, options: LiveOptions) -> Callable[[], cv2.VideoCapture]:
    if not cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
        return lambda: cv2.VideoCapture(address, cv2.CAP_ANY)
    timeout_ms = int(options.timeout_s * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    return lambda: cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits)


def _pipeline_opener(pipeline: str) -> Callable[[], cv2.VideoCapture]:
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise VideoError(
            f"cannot open the GStreamer pipeline '{pipeline}': this OpenCV is built without GStreamer; "
            "use the OpenCV of JetPack or of the distribution (python3-opencv) instead of the wheel"
        )
    return lambda: cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)


def _without_password(address: str) -> str:
    """Return the address without user and password, for messages and logs."""
    return re.sub(r"(?<=://)[^/@]*@", "***@", address)
