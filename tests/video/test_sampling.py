from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.errors import UsageError, VideoError
from edgeact.video import open_source, probe_video, read_clips, window_starts, write_video
from edgeact.video.sampling import WindowCutter
from tests.messages import names
from tests.video.clips import SPEED, make_clip, motion, motion_image, stamped


@pytest.mark.parametrize(
    ("duration_s", "hop_s", "expected"),
    [
        (4.0, None, (0.0, 1.0, 2.0, 3.0)),
        (3.94, None, (0.0, 1.0, 2.0, 3.0)),  # ends within half a clip frame
        (3.9, None, (0.0, 1.0, 2.0)),
        (2.0, 0.5, (0.0, 0.5, 1.0)),
        (0.2, None, (0.0,)),
        (1.0, 3.0, (0.0,)),
    ],
)
def test_window_starts(duration_s: float, hop_s: float | None, expected: tuple[float, ...]) -> None:
    assert window_starts(duration_s, make_clip(), hop_s) == expected


@pytest.mark.parametrize("number", [0.0, -1.0, float("nan"), float("inf")])
def test_a_duration_or_hop_that_is_not_positive(number: float) -> None:
    with pytest.raises(UsageError, check=names("expected a duration above 0")):
        window_starts(number, make_clip())
    with pytest.raises(UsageError, check=names("expected a hop")):
        window_starts(1.0, make_clip(), number)


@settings(max_examples=100)
@given(
    fps=st.floats(8.0, 120.0),
    start_s=st.floats(0.0, 2.0),
    jitter=st.floats(0.0, 0.45),
    seed=st.integers(0, 999),
)
def test_sampled_frames_are_within_half_a_frame_interval(fps: float, start_s: float, jitter: float, seed: int) -> None:
    """For any rate at or above the clip's and any jitter, no chosen frame is further off than half the local gap."""
    clip = make_clip()
    noise = np.random.default_rng(seed).uniform(-jitter, jitter, round(4 * fps))
    times = ((np.arange(len(noise)) + noise + 0.5) / fps).tolist()
    cutter = WindowCutter(clip, [start_s])
    windows = [window for frame in stamped(times) for window in cutter.push(frame)]
    assert len(windows) == 1
    expected = start_s + np.arange(8) / clip.fps
    off_by = np.abs(np.array(windows[0].times_s) - expected)
    nearest = np.abs(np.array(times)[:, None] - expected).min(axis=0)
    np.testing.assert_allclose(off_by, nearest, atol=1e-12)
    inside = expected >= times[0]
    assert off_by[inside].max(initial=0.0) <= 0.5 * np.diff(times).max() + 1e-9


@pytest.mark.parametrize("fps", [12, 25, 30, 60])
def test_motion_is_if_it_should_be_at_any_frame_rate(tmp_path: Path, fps: int) -> None:
    """The disc stands within half a frame's movement (and 0.3 px for the codec) of where the window time puts it."""
    path = tmp_path / "video.mp4"
    write_video(path, motion(fps, 3.0), fps)
    clip = make_clip()
    frames = next(read_clips(path, clip, [1.0]))
    expected = 8 + SPEED * (1.0 + np.arange(8) / clip.fps)
    weights = np.clip(frames[..., 0].astype(float) - 60, 0, None).sum(axis=1)
    position = (weights * np.arange(96)).sum(axis=1) / weights.sum(axis=1)
    assert np.abs(position - expected).max() <= SPEED * 0.5 / fps + 0.3


def test_a_short_video_repeats_its_last_frame(tmp_path: Path) -> None:
    path = tmp_path / "short.mp4"
    write_video(path, motion(25, 0.4), 25)
    clip = make_clip()
    (frames,) = read_clips(path, clip, window_starts(probe_video(path).duration_s, clip))
    assert frames.shape == (8, 48, 96, 3)
    with open_source(path) as source:
        last = list(source)[-1]
    for frame in frames[3:]:
        np.testing.assert_array_equal(frame, last.image)
    assert (frames[0] != frames[2]).any()


def test_overlapping_windows_are_the_windows_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, motion(30, 3.0), 30)
    clip = make_clip()
    starts = window_starts(3.0, clip, 0.3)
    together = list(read_clips(path, clip, starts))
    assert len(together) == len(starts) == 7
    for start_s, frames in zip(starts, together, strict=True):
        np.testing.assert_array_equal(frames, next(read_clips(path, clip, [start_s])))


def test_starts_must_ascend(tmp_path: Path) -> None:
    with pytest.raises(UsageError, check=names("must ascend")):
        read_clips(tmp_path / "any.mp4", make_clip(), [1.0, 0.5])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, check=names("none.mp4")):
        list(read_clips(tmp_path / "none.mp4", make_clip(), [0.0]))


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    """40 s of video, 37 MB when decoded, are cut with the memory of a few clips."""
    path = tmp_path / "long.mp4"
    write_video(path, (motion_image(index / 20, 120, 160) for index in range(800)), 20)
    clip = make_clip()
    clip_bytes = 8 * 120 * 160 * 3
    tracemalloc.start()
    count = sum(1 for _ in read_clips(path, clip, window_starts(40.0, clip, 0.5)))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 79
    assert peak_bytes < 6 * clip_bytes
