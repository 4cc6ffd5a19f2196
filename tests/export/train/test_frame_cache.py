"""Cached frames: the pixels that the device computes, decoded once, and again if the video changes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.calibration.datasets import VideoItem
from edgeact.clip import ClipSpec
from edgeact.errors import DatasetError
from edgeact.export.train import frame_cache as frames_module
from edgeact.export.train.batches import normalized
from edgeact.export.train.frame_cache import PreparedVideos, prepare
from edgeact.video import preprocess, read_clips
from tests.export.videos import CLIP, moving_bars
from tests.messages import names


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("fps", [12.0, 24.0, 30.0, 59.94])
@pytest.mark.parametrize("frames", [1, 2, 11, 40])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_the_first_clip_is_what_the_device_preprocesses(fps: float, frames: int, order: str, tmp_path: Path) -> None:
    """At every frame rate, and for videos shorter than the clip, whose last frame is repeated."""
    clip = ClipSpec.model_validate({**CLIP.model_dump(), "channel_order": order})
    (item,) = moving_bars(tmp_path, 1, fps=fps, frames=max(frames, 2))
    if frames == 1:
        clip = clip.model_copy(update={"clip_frames": 1})
    prepared = prepare([item], clip)
    (expected,) = read_clips(item.path, clip, (0.0,))
    cut = prepared.cut(0, 0.0)
    top, left = (clip.resize[0] - clip.crop[0]) // 2, (clip.resize[1] - clip.crop[1]) // 2
    cropped = cut[None, :, top : top + clip.crop[0], left : left + clip.crop[1]]
    np.testing.assert_allclose(
        normalized(torch.from_numpy(cropped), clip).numpy(), preprocess(expected, clip), atol=2e-6
    )


def _stored(path: Path, count: int, clip: ClipSpec = CLIP) -> PreparedVideos:
    frames = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, *clip.resize, 3), np.uint8)
    np.save(path, frames)
    return PreparedVideos(clip, (path,), (0,))


@settings(max_examples=100)
@given(count=st.integers(1, 60), phase=st.floats(0, 1))
def test_clips_keep_their_rate_and_remain_inside(
    count: int, phase: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cut = _stored(tmp_path_factory.getbasetemp() / "frames.npy", count).cut(0, phase)
    indices = cut[:, 0, 0, 0].astype(int).tolist()
    span = 3 * (CLIP.clip_frames - 1)
    assert cut.shape == (CLIP.clip_frames, *CLIP.resize, 3)
    assert indices == [min(indices[0] + 3 * step, count - 1) for step in range(CLIP.clip_frames)]
    assert indices[0] == 0 or indices[0] + span <= count - 1
    if phase == 1 and count > span:
        assert indices[-1] == count - 1


def test_changing_a_cut_clip_leaves_the_cache_unchanged(tmp_path: Path) -> None:
    prepared = _stored(tmp_path / "frames.npy", 20)
    prepared.cut(0, 0.0)[:] = 255
    assert prepared.cut(0, 0.0).max() < 255


def test_unreadable_videos_are_left_out_and_counted(tmp_path: Path) -> None:
    items = moving_bars(tmp_path / "videos", 3)
    (tmp_path / "broken.mp4").write_bytes(b"no video at all" * 50)
    bad = [VideoItem(tmp_path / "broken.mp4", 0, "b"), VideoItem(tmp_path / "gone.mp4", 1, "g")]
    seen: list[tuple[int, int]] = []
    prepared = prepare([bad[0], *items, bad[1]], CLIP, lambda done, total: seen.append((done, total)))
    assert prepared.skipped == {"unreadable": 1, "missing": 1}
    assert prepared.labels == (0, 1, 0)
    assert len(prepared) == 3
    assert seen == [(done, 5) for done in range(1, 6)]
    with pytest.raises(DatasetError, check=names("none of 2 videos could be decoded (1 unreadable, 1 missing)")):
        prepare(bad, CLIP)


def test_frames_are_decoded_once_until_the_video_or_the_contract_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []
    decode = frames_module._decode

    def counted(path: Path, clip: ClipSpec) -> object:
        decoded.append(path)
        return decode(path, clip)

    monkeypatch.setattr(frames_module, "_decode", counted)
    (item,) = moving_bars(tmp_path, 1)
    first = prepare([item], CLIP).files
    assert prepare([item], CLIP).files == first
    assert prepare([item], CLIP.model_copy(update={"clip_frames": 2, "crop": (16, 16)})).files == first
    assert len(decoded) == 1
    assert prepare([item], CLIP.model_copy(update={"fps": 5.0})).files != first
    assert len(decoded) == 2
    os.utime(item.path, (1, 1))
    assert prepare([item], CLIP).files != first
    assert len(decoded) == 3


def test_an_interruption_does_not_wait_for_the_other_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Path] = []

    def slow(path: Path, _clip: ClipSpec, _folder: Path) -> str:
        started.append(path)
        time.sleep(0.01)
        return "slow"

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(frames_module, "_decode_to_cache", slow)
    with pytest.raises(KeyboardInterrupt):
        prepare([VideoItem(tmp_path / str(number), 0, str(number)) for number in range(500)], CLIP, interrupt)
    assert len(started) < 250
