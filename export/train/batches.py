"""Batches of clips: augmentation drawn in a fixed order, clips assembled ahead of the training step.

All randomness of an epoch is in its draws, which follow from seed, epoch and number of videos alone. Reading a clip by
its draw is a pure function, so the thread that reads ahead cannot change what is trained.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from edgeact.clip import ClipSpec
from edgeact.export.train.frame_cache import Frames, PreparedVideos
from edgeact.export.train.plan import TrainPlan

__all__ = ["ClipDraw", "EpochDraws", "center_crop_batches", "normalized", "prefetched", "training_batches"]

_Batch = TypeVar("_Batch")

_CPU = torch.device("cpu")
_PREFETCHED_BATCHES = 2
_GAIN = (0.7, 1.3)
_OFFSET = (-0.15, 0.15)  # of pixels scaled to [0, 1]


@dataclass(frozen=True)
class ClipDraw:
    """Random choices of one training clip."""

    video: int
    phase: float
    """Start of the clip in its video, within [0, 1); see `PreparedVideos.cut`."""
    frame: int | None
    """Index of the frame that is repeated; None for all frames of the clip."""
    top: int
    left: int
    mirrored: bool
    gain: float = 1.0
    offset: float = 0.0
    """Brightness: pixels x within [0, 1] become gain * x + offset, clipped to [0, 1]."""


class EpochDraws(Sampler[list[ClipDraw]]):
    """Draws of one epoch in batches, the same for the same seed, epoch, number of videos and clip contract.

    Every video is drawn once; videos that fill no batch are left out, unless there is less than one batch.
    """

    def __init__(self, videos: PreparedVideos, plan: TrainPlan, epoch: int) -> None:
        self._clip = videos.clip
        self._video_count = len(videos)
        self._plan = plan
        self._epoch = epoch

    def __len__(self) -> int:
        return max(self._video_count // self._plan.batch_size, 1)

    def __iter__(self) -> Iterator[list[ClipDraw]]:
        rng = np.random.default_rng((self._plan.seed, self._epoch))
        order = rng.permutation(self._video_count)
        for start in range(0, len(self) * self._plan.batch_size, self._plan.batch_size):
            draws = [self._draw(int(video), rng) for video in order[start : start + self._plan.batch_size]]
            low, high = zip(_GAIN, _OFFSET, strict=True)
            brightness = rng.uniform(low, high, (len(draws), 2))
            yield [
                replace(draw, gain=gain, offset=offset) for draw, (gain, offset) in zip(draws, brightness, strict=True)
            ]

    def _draw(self, video: int, rng: np.random.Generator) -> ClipDraw:
        (height, width), (crop_height, crop_width) = self._clip.resize, self._clip.crop
        return ClipDraw(  # arguments are evaluated, and numbers drawn, in this order
            video=video,
            phase=rng.random(),
            frame=int(rng.integers(self._clip.clip_frames)) if self._plan.frames == "single" else None,
            top=int(rng.integers(height - crop_height + 1)),
            left=int(rng.integers(width - crop_width + 1)),
            mirrored=self._plan.flip and rng.random() < 0.5,
        )


@dataclass(frozen=True)
class _Clip:
    """A cropped clip `(T, H, W, 3)` uint8 with its brightness and class."""

    frames: Frames
    label: int
    gain: float = 1.0
    offset: float = 0.0


class _RandomClips(Dataset[_Clip]):
    """Training clips by their draws."""

    def __init__(self, videos: PreparedVideos) -> None:
        self._videos = videos

    def __getitem__(self, draw: ClipDraw) -> _Clip:
        height, width = self._videos.clip.crop
        frames = self._videos.cut(draw.video, draw.phase)
        if draw.frame is not None:
            frames = np.repeat(frames[[draw.frame]], len(frames), axis=0)
        frames = frames[:, draw.top : draw.top + height, draw.left : draw.left + width]
        if draw.mirrored:
            frames = frames[:, :, ::-1]
        return _Clip(frames, self._videos.labels[draw.video], draw.gain, draw.offset)


class _CenterClips(Dataset[_Clip]):
    """The first clip of every video, center crop."""

    def __init__(self, videos: PreparedVideos, plan: TrainPlan) -> None:
        self._videos = videos
        self._single = plan.frames == "single"

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, video: int) -> _Clip:
        (height, width), (crop_height, crop_width) = self._videos.clip.resize, self._videos.clip.crop
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
        frames = self._videos.cut(video, 0.0)
        if self._single:
            frames = np.repeat(frames[[len(frames) // 2]], len(frames), axis=0)
        return _Clip(frames[:, top : top + crop_height, left : left + crop_width], self._videos.labels[video])


def training_batches(
    videos: PreparedVideos, plan: TrainPlan, epoch: int, device: torch.device = _CPU
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yield one epoch of augmented clips, float32 `(N, 3, T, H, W)`, with their labels `(N,)`, on `device`."""
    loader = _loader(_RandomClips(videos), EpochDraws(videos, plan, epoch), device)
    with contextlib.closing(prefetched(loader)) as batches:
        for frames, brightness, labels in batches:
            clips = normalized(frames.to(device, non_blocking=True), videos.clip, brightness.to(device))
            yield clips, labels.to(device)


def center_crop_batches(
    videos: PreparedVideos, plan: TrainPlan, device: torch.device = _CPU
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yield the first clip of every video, center crop, float32 `(N, 3, T, H, W)`, with labels `(N,)`, on `device`."""
    batch_sampler = BatchSampler(range(len(videos)), plan.batch_size, drop_last=False)
    loader = _loader(_CenterClips(videos, plan), batch_sampler, device)
    with contextlib.closing(prefetched(loader)) as batches:
        for frames, _brightness, labels in batches:
            yield normalized(frames.to(device, non_blocking=True), videos.clip), labels.to(device)


def _loader(
    clips: Dataset[_Clip], batch_sampler: Sampler[list[ClipDraw]] | Sampler[list[int]], device: torch.device
) -> DataLoader[_Clip]:
    return DataLoader(
        clips,
        batch_sampler=batch_sampler,
        collate_fn=_collated,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # or a seed is drawn from the global generator, on which dropout depends
    )


def _collated(clips: Sequence[_Clip]) -> tuple[Tensor, Tensor, Tensor]:
    """Return uint8 frames `(N, T, H, W, 3)`, float32 brightness `(N, 2)` and labels `(N,)`.

    Frames are stacked by NumPy: operators of PyTorch would start a second team of OpenMP threads in the prefetching
    thread, which compete with those of the training.
    """
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
    brightness = torch.tensor([(clip.gain, clip.offset) for clip in clips], dtype=torch.float32)
    return frames, brightness, torch.tensor([clip.label for clip in clips])


def prefetched(batches: Iterable[_Batch], count: int = _PREFETCHED_BATCHES) -> Generator[_Batch, None, None]:
    """Yield `batches` in order while a thread computes the next `count`; errors are raised in their batch's place.

    A thread instead of the DataLoader's worker processes: these take a second or more to start, in which the thread
    reads thousands of clips from the cache of frames; they need a guarded main module of the user's script; and forking
    them is unsafe once OpenMP has started threads.
    """
    with ThreadPoolExecutor(1, "prefetch") as thread:
        iterator = iter(batches)
        pending = deque(thread.submit(next, iterator, None) for _ in range(count))
        try:
            while (batch := pending.popleft().result()) is not None:
                pending.append(thread.submit(next, iterator, None))
                yield batch
        finally:
            for future in pending:
                future.cancel()


def normalized(frames: Tensor, clip: ClipSpec, brightness: Tensor | None = None) -> Tensor:
    """Return uint8 RGB `(N, T, H, W, 3)` as the network's float32 `(N, 3, T, H, W)`, on the same device.

    `brightness` float32 `(N, 2)` holds the gain and offset of each clip, see `ClipDraw`.
    """
    scaled = frames.float() / 255
    if brightness is not None:
        gain, offset = brightness.view(-1, 2, 1, 1, 1, 1).unbind(1)
        scaled = (scaled * gain + offset).clamp(0, 1)
    if clip.channel_order == "bgr":
        scaled = scaled.flip(-1)
    mean, std = (torch.tensor(values, device=frames.device) for values in (clip.mean, clip.std))
    return ((scaled - mean) / std).permute(0, 4, 1, 2, 3).contiguous()
