from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.errors import VideoError
from edgeact.video import open_source, probe_video, write_video
from edgeact.video.recorded import StampClock
from tests.messages import names
from tests.video.clips import motion


@pytest.mark.parametrize(
    ("stamps_ms", "expected_s", "repaired"),
    [
        ([40, 80, 120], [0, 0.04, 0.08], 0),  # does not start at zero
        ([40, 80, 0], [0, 0.04, 0.08], 1),  # flushed without a stamp
        ([0, 0, 0], [0, 0.04, 0.08], 2),  # none at all
        ([0, 10, 200, 210], [0, 0.01, 0.2, 0.21], 0),  # variable rate
        ([0, 40, 20, 120], [0, 0.04, 0.08, 0.12], 1),  # out of order
        ([0, 40, math.nan, 120], [0, 0.04, 0.08, 0.12], 1),
        ([0, 40, 1e15, 120], [0, 0.04, 0.08, 0.12], 1),
        ([math.nan, 40, 80], [0, 0.04, 0.08], 0),
    ],
)
def test_stamps(stamps_ms: list[float], expected_s: list[float], repaired: int) -> None:
    clock = StampClock(25.0)
    assert [clock.tick(stamp) for stamp in stamps_ms] == pytest.approx(expected_s)
    assert clock.repaired == repaired


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=2, max_size=30), st.floats())
def test_time_starts_at_zero_and_increases_strictly(stamps_ms: list[float], header_fps: float) -> None:
    clock = StampClock(header_fps)
    times = [clock.tick(stamp) for stamp in stamps_ms]
    assert times[0] == 0.0
    assert all(0 < later - earlier <= 601 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("fps", [12.0, 25.0, 29.97, 60.0])
def test_frames_come_in_order_with_the_times_written(tmp_path: Path, fps: float) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, motion(fps, 1.0), fps)
    with open_source(str(path)) as source:
        times = [frame.time_s for frame in source]
    assert times == pytest.approx([index / fps for index in range(round(fps))], abs=2e-3)
    info = probe_video(path)
    assert info.frames == round(fps)
    assert info.fps == pytest.approx(fps, rel=1e-3)
    assert (info.width, info.height, info.repaired_stamps) == (96, 48, 0)


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 50])
def test_a_file_that_is_not_a_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, check=names("bad.mp4", "expected a video", f"got {len(content)} bytes")):
        probe_video(path)


def test_a_truncated_file(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    write_video(whole, motion(25, 1.0), 25)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[:-700])
    with pytest.raises(VideoError, check=names("cut.mp4")):
        probe_video(cut)


def test_a_video_whose_frames_are_all_damaged(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, motion(25, 1.0), 25)
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
    with pytest.raises(VideoError, check=names("expected at least 1 frame that can be decoded, got 0")):
        probe_video(path)
    with (
        open_source(path) as source,
        pytest.raises(VideoError, check=names("expected at least 1 frame that can be decoded, got 0")),
    ):
        next(source)


@pytest.mark.parametrize(("name", "got"), [("none.mp4", "nothing"), (".", "a folder")])
def test_a_path_that_is_not_a_file(tmp_path: Path, name: str, got: str) -> None:
    with pytest.raises(VideoError, check=names(f"expected a file, got {got}")):
        open_source(tmp_path / name)
