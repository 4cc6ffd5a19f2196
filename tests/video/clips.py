"""Frames, videos and contracts made for the video tests."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from edgeact.clip import ClipSpec
from edgeact.video import Frame, Image

SPEED = 20  # pixels a second


def make_clip(clip_frames: int = 8, fps: float = 8.0, **fields: object) -> ClipSpec:
    values: dict[str, object] = {
        "clip_frames": clip_frames,
        "fps": fps,
        "resize": (32, 40),
        "crop": (32, 32),
        "mean": (0.43, 0.39, 0.37),
        "std": (0.22, 0.23, 0.21),
    }
    return ClipSpec.model_validate(values | fields)


def motion_image(time_s: float, height: int = 48, width: int = 96) -> Image:
    """A bright disc that moves right by SPEED over a dark ground."""
    image = np.full((height, width, 3), 20, np.uint8)
    cv2.circle(image, (round((8 + SPEED * time_s) * 16), height // 2 * 16), 6 * 16, (230, 120, 60), -1, cv2.LINE_AA, 4)
    return image


def motion(fps: float, duration_s: float) -> Iterator[Image]:
    return (motion_image(index / fps) for index in range(round(duration_s * fps)))


def stamped(times_s: list[float]) -> list[Frame]:
    """Tiny frames at these times; the first pixel holds the frame's index."""
    return [Frame(np.full((2, 2, 3), index % 256, np.uint8), float(time_s)) for index, time_s in enumerate(times_s)]
