"""Encoding frames as a video file."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from edgeact.errors import InputError, StorageError, UsageError
from edgeact.storage import atomic_write
from edgeact.video.frame import Image

__all__ = ["write_video"]


def write_video(path: str | Path, frames: Iterable[Image], fps: float) -> None:
    """Write RGB uint8 frames (H, W, 3) of equal size as an MPEG-4 video (`.mp4`) of `fps` frames per second.

    The file appears atomically, complete or not at all. The encoder requires even sizes: an odd height or width loses
    its last row or column. Raises UsageError for another suffix or rate, InputError for no frames or frames of another
    kind, StorageError if the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != ".mp4":
        raise UsageError(f"'{target.name}': write_video writes .mp4 files; choose that suffix")
    if not (math.isfinite(fps) and 1.0 <= fps <= 1000.0):
        raise UsageError(f"expected a rate of 1 to 1000 frames per second, got {fps}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise StorageError(f"cannot write '{target}': {error.strerror or error}") from error
    with folder:
        encoded = Path(folder.name) / "video.mp4"
        _encode(encoded, frames, fps, target)
        with atomic_write(target) as output, encoded.open("rb") as source:
            shutil.copyfileobj(source, output)


def _encode(encoded: Path, frames: Iterable[Image], fps: float, target: Path) -> None:
    writer = cv2.VideoWriter()
    shape: tuple[int, ...] = ()
    count = 0
    try:
        for count, frame in enumerate(frames, start=1):  # noqa: B007 - the count outlives the loop
            if not shape:
                shape = _checked(frame, (*frame.shape[:2], 3)).shape
                fourcc = cv2.VideoWriter.fourcc(*"mp4v")
                writer.open(str(encoded), cv2.CAP_FFMPEG, fourcc, fps, (shape[1], shape[0]))
                if not writer.isOpened():
                    raise StorageError(f"cannot write '{target}': OpenCV's MPEG-4 encoder refused {shape} at {fps} fps")
            writer.write(cv2.cvtColor(_checked(frame, shape), cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
    if count == 0:
        raise InputError(f"cannot write '{target}': expected at least 1 frame, got 0")
    written = int(cv2.VideoCapture(str(encoded), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FRAME_COUNT))
    if written != count:  # OpenCV's writer does not report a full disk
        raise StorageError(f"cannot write '{target}': expected {count} frames on disk, got {written}; free some space")


def _checked(frame: Image, shape: tuple[int, ...]) -> Image:
    if frame.dtype != np.uint8 or frame.shape != shape:
        raise InputError(f"expected RGB uint8 frames of shape {shape}, got {frame.dtype} of shape {frame.shape}")
    return frame
