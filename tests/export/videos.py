"""Small videos with known pixels, and a tiny prepared data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeact.calibration.datasets import VideoItem
from edgeact.clip import ClipSpec
from edgeact.video import write_video

__all__ = ["CLIP", "moving_bars"]

CLIP = ClipSpec(clip_frames=4, fps=6.0, resize=(36, 40), crop=(32, 32), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def moving_bars(folder: Path, count: int, *, fps: float = 24.0, frames: int = 30) -> list[VideoItem]:
    """`count` videos of a bright bar: label 0 moves right, 1 moves left; colours and noise differ."""
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for number in range(count):
        rng = np.random.default_rng(number)
        images = rng.integers(0, 60, (frames, 48, 64, 3)).astype(np.uint8)
        color = rng.integers(150, 255, 3)
        for index in range(frames):
            place = 52 * index // (frames - 1)
            images[index if number % 2 == 0 else frames - 1 - index, :, place : place + 10] = color
        path = folder / f"{number:03d}.mp4"
        write_video(path, images, fps)
        items.append(VideoItem(path, number % 2, f"person {number}"))
    return items
