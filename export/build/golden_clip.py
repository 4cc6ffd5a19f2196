"""The golden clip: a short video with the result of each stage, so that a device can find where it differs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgeact.bundle import Golden
from edgeact.calibration.datasets import VideoItem
from edgeact.clip import ClipSpec
from edgeact.video import frames_digest, preprocess, read_clips, write_video

__all__ = ["GOLDEN_PATH", "make_golden"]

GOLDEN_PATH = "golden/clip.mp4"
_LARGEST_SIDE = 320


def make_golden(module: nn.Module, clip: ClipSpec, item: VideoItem, label: str | None) -> tuple[Golden, bytes]:
    """Return the golden record of the first clip of a video, and the clip as mp4.

    The clip is decoded again, preprocessed and run through PyTorch FP32.

    Frames larger than 320 pixels are cropped to their center, so that the bundle stays small.
    Raises VideoError if the video cannot be read.
    """
    (frames,) = read_clips(item.path, clip, (0.0,))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, list(_center(frames)), max(clip.fps, 1.0))
        data = path.read_bytes()
        (decoded,) = read_clips(path, clip, (0.0,))
    inputs = preprocess(decoded, clip)
    with torch.no_grad():
        logits = module(torch.from_numpy(inputs)).numpy()[0]
    channels = inputs[0].reshape(3, -1).astype(np.float64)
    mean, std = channels.mean(axis=1), channels.std(axis=1)
    golden = Golden(
        video=GOLDEN_PATH,
        frames_sha256=frames_digest(decoded),
        frames_shape=(decoded.shape[0], decoded.shape[1], decoded.shape[2], 3),
        input_mean=(_short(mean[0]), _short(mean[1]), _short(mean[2])),
        input_std=(_short(std[0]), _short(std[1]), _short(std[2])),
        logits=tuple(_short(value) for value in logits),
        label=label,
    )
    return golden, data


def _center(frames: np.ndarray) -> np.ndarray:
    height, width = (min(side, _LARGEST_SIDE) // 2 * 2 for side in frames.shape[1:3])
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return frames[:, top : top + height, left : left + width]


def _short(value: float) -> float:
    """Round to six decimals: enough to compare, and the same text if the last bit of a sum differs."""
    return round(float(value), 6)
