"""The golden clip: a short video with the result of each stage, so that a device can find where it differs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgeact.bundle import Golden
from edgeact.bundle.manifest import Role
from edgeact.calibration.datasets import VideoItem
from edgeact.clip import ClipSpec
from edgeact.export.build.state import Build, Context
from edgeact.export.candidates.candidate import Candidate
from edgeact.runtime.golden import encode_pixels, network_input
from edgeact.video import center_crop, frames_digest, read_clips, resize_frame, write_video

__all__ = ["GoldenClip", "golden_of", "make_golden", "with_golden_logits"]

_VIDEO, _PIXELS = "golden/clip.mp4", "golden/pixels.bin"
_LARGEST_SIDE = 320
_DIGITS = 6


@dataclass(frozen=True, eq=False)
class GoldenClip:
    """The golden clip of a build: what the manifest states, its members, and the network's input."""

    golden: Golden
    members: Mapping[str, tuple[Role, bytes]]
    inputs: npt.NDArray[np.float32]
    """Float32 (1, 3, T, H, W)."""


def golden_of(build: Build, context: Context) -> GoldenClip:
    """Return the golden clip of a build, made from its first parity clip and cached in the context.

    It has no label if the labels of the data are not the model's.
    """
    model, data = build.model, build.inputs.data
    if context.golden is None or context.golden[0] is not model:
        item = data.parity.items[0]
        label = model.labels[item.label] if data.labels == model.labels else None
        context.golden = (model, make_golden(model.module, model.clip, item, label))
    return context.golden[1]


def make_golden(module: nn.Module, clip: ClipSpec, item: VideoItem, label: str | None) -> GoldenClip:
    """Return the golden clip of the first clip of a video.

    The clip is written as mp4, decoded again, preprocessed and run through PyTorch FP32.

    Frames larger than 320 pixels are cropped to their center, so that the bundle stays small.
    Raises VideoError if the video cannot be read.
    """
    (frames,) = read_clips(item.path, clip, (0.0,))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, list(_center(frames)), max(clip.fps, 1.0))
        video = path.read_bytes()
        (decoded,) = read_clips(path, clip, (0.0,))
    pixels = np.stack([center_crop(resize_frame(frame, clip), clip) for frame in decoded])
    inputs = network_input(pixels, clip)
    with torch.no_grad():
        logits = module(torch.from_numpy(inputs)).numpy()[0]
    channels = inputs[0].reshape(3, -1).astype(np.float64)
    golden = Golden(
        video=_VIDEO,
        frames_sha256=frames_digest(decoded),
        frames_shape=(decoded.shape[0], decoded.shape[1], decoded.shape[2], 3),
        input_mean=_triple(channels.mean(axis=1)),
        input_std=_triple(channels.std(axis=1)),
        logits=tuple(_short(value) for value in logits),
        label=label,
        frames_mean=tuple(_triple(mean) for mean in decoded.mean(axis=(1, 2))),
        pixels=_PIXELS,
    )
    members: dict[str, tuple[Role, bytes]] = {
        _VIDEO: ("golden-video", video),
        _PIXELS: ("other", encode_pixels(pixels)),
    }
    return GoldenClip(golden, members, inputs)


def with_golden_logits(candidate: Candidate, logits: npt.NDArray[np.float32]) -> Candidate:
    """Return the candidate with the logits (classes,) that it computes from the golden clip here."""
    figures = tuple(float(f"{value:.{_DIGITS}g}") for value in logits.tolist())
    return replace(candidate, artifact=candidate.artifact.model_copy(update={"golden_logits": figures}))


def _center(frames: np.ndarray) -> np.ndarray:
    height, width = (min(side, _LARGEST_SIDE) // 2 * 2 for side in frames.shape[1:3])
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return frames[:, top : top + height, left : left + width]


def _short(value: float) -> float:
    """Round to six decimals: enough to compare, and the same text if the last bit of a sum differs."""
    return round(float(value), 6)


def _triple(values: npt.NDArray[np.floating]) -> tuple[float, float, float]:
    first, second, third = map(_short, values)
    return first, second, third
