from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.calibration.clips import motion as motion_of
from edgeact.calibration.clips import sample_clips, stratified_order, video_inputs
from edgeact.calibration.datasets import VideoItem
from edgeact.errors import CalibrationError, VideoError
from edgeact.video import probe_video, write_video
from tests.video.clips import make_clip, motion

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=80)


def _items(pairs: list[tuple[int, int]]) -> list[VideoItem]:
    return [VideoItem(Path(f"/v/{index}.mp4"), label, f"g{group}") for index, (label, group) in enumerate(pairs)]


def _is_balanced(taken: Counter[object], available: Counter[object]) -> bool:
    """Return whether every key with items left was taken as often as any other, within one."""
    most = max(taken.values(), default=0)
    return all(taken[key] == count or taken[key] >= most - 1 for key, count in available.items())


@given(PAIRS, st.integers(0, 5))
def test_stratified_order_balances_every_prefix_over_classes_then_groups(
    pairs: list[tuple[int, int]], seed: int
) -> None:
    items = _items(pairs)
    order = list(stratified_order(items, seed))
    assert sorted(order, key=lambda item: item.path) == sorted(items, key=lambda item: item.path)
    for length in range(len(order) + 1):
        prefix = order[:length]
        assert _is_balanced(Counter(item.label for item in prefix), Counter(item.label for item in items))
        for label in {item.label for item in items}:
            assert _is_balanced(
                Counter(item.group for item in prefix if item.label == label),
                Counter(item.group for item in items if item.label == label),
            )


@given(PAIRS, st.integers(0, 5))
def test_stratified_order_depends_on_the_seed_only(pairs: list[tuple[int, int]], seed: int) -> None:
    items = _items(pairs)
    assert list(stratified_order(items, seed)) == list(stratified_order(items, seed))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[VideoItem]:
    """Three classes of four videos, three seconds each."""
    root = tmp_path_factory.mktemp("videos")
    items = []
    for label in range(3):
        for group in range(4):
            path = root / f"{label}_{group}.mp4"
            write_video(path, motion(16.0, 3.0), 16.0)
            items.append(VideoItem(path, label, f"g{group}"))
    return items


def test_video_inputs_yields_the_windows_in_order(videos: list[VideoItem]) -> None:
    arrays = list(video_inputs(videos[0], make_clip(), probe_video(videos[0].path)))
    assert len(arrays) == 3
    assert {(array.shape, array.dtype.name) for array in arrays} == {((1, 3, 8, 32, 32), "float32")}
    assert not np.array_equal(arrays[0], arrays[2])  # the disc has moved


def test_sample_clips_takes_one_clip_per_video_and_reports_progress(videos: list[VideoItem]) -> None:
    calls: list[tuple[int, int]] = []
    sample = sample_clips(videos, make_clip(), 5, 3, lambda done, total: calls.append((done, total)))
    assert len(sample) == len(set(sample.items)) == 5
    assert sample.classes == 3
    assert calls == [(count, 10) for count in range(1, 11)]
    again = sample_clips(videos, make_clip(), 5, 3)
    assert again.items == sample.items
    np.testing.assert_array_equal(np.stack(again.inputs), np.stack(sample.inputs))


@pytest.fixture(scope="module")
def speeds(tmp_path_factory: pytest.TempPathFactory) -> list[VideoItem]:
    """Two classes of twelve videos in three groups: discs with twelve speeds, each video is one window long."""
    root = tmp_path_factory.mktemp("speeds")
    items = []
    for label in range(2):
        for speed in range(12):
            path = root / f"{label}_{speed}.mp4"
            write_video(path, _disc(speed, label), 8.0)
            items.append(VideoItem(path, label, f"g{speed // 4}"))
    return items


def _disc(speed: int, label: int) -> list[np.ndarray]:
    """Return eight frames of a disc that moves `speed` pixels per frame."""
    rows, columns = np.mgrid[:48, :128]
    frames = []
    for index in range(8):
        inside = (rows - 24) ** 2 + (columns - 20 - index * speed) ** 2 < 12**2
        frames.append(np.where(inside[..., None], 250, 20 + 30 * label).astype(np.uint8).repeat(3, axis=2))
    return frames


def test_sample_clips_is_stratified_by_motion_including_the_extremes(speeds: list[VideoItem]) -> None:
    clip = make_clip(resize=(48, 128), crop=(48, 128))
    for seed in range(3):
        sample = sample_clips(speeds, clip, 12, seed)
        assert Counter(item.label for item in sample.items) == {0: 6, 1: 6}
        for label in range(2):
            chosen = [item for item in sample.items if item.label == label]
            sampled = sorted(int(item.path.stem.partition("_")[2]) for item in chosen)
            assert (sampled[0], sampled[-1]) == (0, 11)
            assert all(2 * index <= speed <= 2 * index + 1 for index, speed in enumerate(sampled))
            assert sorted(Counter(item.group for item in chosen).values()) == [2, 2, 2]
        assert all(item.label == index % 2 for index, item in enumerate(sample.items))
        assert sample.motions == tuple(motion_of(array) for array in sample.inputs)
        assert sample.groups == 3


def test_motion_is_the_mean_frame_difference() -> None:
    still = np.ones((1, 3, 4, 5, 6), np.float32)
    assert motion_of(still) == 0
    assert motion_of(still[:, :, :1]) == 0
    moving = still * np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1, 1)
    assert motion_of(moving) == 1


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_sample_clips_balances_small_samples_over_classes(speeds: list[VideoItem], count: int) -> None:
    sample = sample_clips(speeds, make_clip(), count)
    labels = Counter(item.label for item in sample.items)
    assert len(sample) == len(set(sample.items)) == count
    assert max(labels.values()) - min(labels[0], labels[1]) <= 1


def test_sample_clips_takes_all_videos_if_more_are_requested(videos: list[VideoItem]) -> None:
    assert len(sample_clips(videos, make_clip(), 500)) == len(videos)


def test_sample_clips_counts_and_replaces_unreadable_videos(videos: list[VideoItem], tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    broken = [VideoItem(tmp_path / "broken.mp4", label, "x") for label in range(3)]
    sample = sample_clips([*broken, *videos], make_clip(), 12)
    assert len(sample) == 12
    assert sample.skipped == {"unreadable": 3}
    with pytest.raises(CalibrationError):
        sample_clips(broken, make_clip(), 12)
    with pytest.raises(VideoError):
        list(video_inputs(broken[0], make_clip(), probe_video(videos[0].path)))
