"""Batches: the same clips in the same order for the same seed, however far ahead they are read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeact.clip import ClipSpec
from edgeact.export.train.batches import EpochDraws, center_crop_batches, normalized, prefetched, training_batches
from edgeact.export.train.frame_cache import PreparedVideos
from edgeact.export.train.plan import TrainPlan
from tests.export.videos import CLIP

PLAN = TrainPlan(batch_size=8, seed=3)


def _expected(videos: PreparedVideos, plan: TrainPlan, epoch: int) -> Iterator[tuple[torch.Tensor, list[int]]]:
    """Return the batches of an epoch by definition; trained weights and recorded studies depend on the order."""
    rng = np.random.default_rng((plan.seed, epoch))
    order = rng.permutation(len(videos))
    (height, width), (crop_height, crop_width) = videos.clip.resize, videos.clip.crop
    for start in range(0, max(len(order) // plan.batch_size, 1) * plan.batch_size, plan.batch_size):
        clips = []
        for index in order[start : start + plan.batch_size]:
            frames = videos.cut(int(index), rng.random())
            if plan.frames == "single":
                frames = np.repeat(frames[[rng.integers(len(frames))]], len(frames), axis=0)
            top, left = rng.integers(height - crop_height + 1), rng.integers(width - crop_width + 1)
            frames = frames[:, top : top + crop_height, left : left + crop_width]
            clips.append(frames[:, :, ::-1] if plan.flip and rng.random() < 0.5 else frames)
        light = torch.from_numpy(rng.uniform((0.7, -0.15), (1.3, 0.15), (len(clips), 2)).astype(np.float32))
        gain, offset = light.view(-1, 2, 1, 1, 1, 1).unbind(1)
        scaled = (torch.from_numpy(np.stack(clips)).float() / 255 * gain + offset).clamp(0, 1)
        batch = (scaled - torch.tensor(videos.clip.mean)) / torch.tensor(videos.clip.std)
        yield batch.permute(0, 4, 1, 2, 3), [videos.labels[index] for index in order[start : start + plan.batch_size]]


@pytest.mark.parametrize(
    ("plan", "count"),
    [
        (PLAN, 32),
        (replace(PLAN, flip=True), 30),
        (replace(PLAN, frames="single", batch_size=50), 20),
        (replace(PLAN, frames="single", flip=True, seed=0), 8),
    ],
    ids=["plain", "flip", "single frames, less than a batch", "both"],
)
@pytest.mark.parametrize("epoch", [0, 5])
def test_an_epoch_is_what_its_definition_says(plan: TrainPlan, count: int, epoch: int, videos: PreparedVideos) -> None:
    videos = replace(videos, files=videos.files[:count], labels=videos.labels[:count])
    batches = list(training_batches(videos, plan, epoch))
    assert len(batches) == len(EpochDraws(videos, plan, epoch))
    for (clips, labels), (expected, classes) in zip(batches, _expected(videos, plan, epoch), strict=True):
        assert torch.equal(clips, expected)
        assert clips.is_contiguous()
        assert labels.tolist() == classes


def test_epochs_differ_and_repeat(videos: PreparedVideos) -> None:
    first, second, again = (list(EpochDraws(videos, PLAN, epoch)) for epoch in (0, 1, 0))
    assert first == again
    assert first != second
    assert sorted(draw.video for batch in first for draw in batch) == list(range(32))


def test_reading_leaves_the_global_random_numbers_alone(videos: PreparedVideos) -> None:
    """Dropout draws from them."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    for _ in (*training_batches(videos, PLAN, 0), *center_crop_batches(videos, PLAN)):
        pass
    assert torch.equal(torch.rand(3), expected)


def test_center_crops_are_of_all_videos_in_order(videos: PreparedVideos) -> None:
    plan = replace(PLAN, batch_size=20)
    batches = list(center_crop_batches(videos, plan))
    assert [len(labels) for _, labels in batches] == [20, 12]
    assert torch.cat([labels for _, labels in batches]).tolist() == list(videos.labels)
    frames = torch.from_numpy(videos.cut(31, 0.0)[None, :, 2:34, 4:36].copy())
    assert torch.equal(batches[1][0][-1:], normalized(frames, videos.clip))


def test_bgr_models_get_reversed_channels() -> None:
    clip = ClipSpec.model_validate({**CLIP.model_dump(), "mean": (0, 0, 0), "std": (1, 1, 1), "channel_order": "bgr"})
    frames = torch.tensor([255, 128, 0], dtype=torch.uint8).expand(1, 2, 2, 2, 3)
    assert normalized(frames, clip)[0, :, 0, 0, 0].tolist() == pytest.approx([0, 128 / 255, 1])


def test_batches_are_computed_ahead_by_another_thread() -> None:
    threads: list[int] = []

    def batches() -> Iterator[int]:
        for number in range(5):
            threads.append(threading.get_ident())
            yield number

    ahead = prefetched(batches(), 2)
    assert next(ahead) == 0
    deadline = time.monotonic() + 10
    while len(threads) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(threads) == 3  # the first and two ahead, no more
    assert list(ahead) == [1, 2, 3, 4]
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


def test_an_error_is_raised_in_its_batch_s_place() -> None:
    def batches() -> Iterator[int]:
        yield 0
        yield 1
        raise ZeroDivisionError

    ahead = prefetched(batches(), 2)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(ahead)


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    ahead = prefetched(iter(range(1, 1000)), 2)
    assert next(ahead) == 1
    assert threading.active_count() == before + 1
    ahead.close()
    assert threading.active_count() == before
