from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.errors import InputError, UsageError
from edgeact.video import ClipBuffer, Frame, Window
from edgeact.video.sampling import WindowCutter
from tests.messages import names
from tests.video.clips import make_clip, stamped


def cut(buffer: ClipBuffer, times_s: list[float]) -> list[Window]:
    return [window for frame in stamped(times_s) for window in buffer.push(frame)]


@pytest.mark.parametrize("fps", [5, 12, 25, 30, 60])
def test_a_window_every_hop_at_any_rate(fps: int) -> None:
    notes: list[str] = []
    windows = cut(ClipBuffer(make_clip(), 0.5, on_note=notes.append), [index / fps for index in range(4 * fps + 1)])
    assert [window.start_s for window in windows] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    for window in windows:
        expected = window.start_s + np.arange(8) / 8
        assert np.abs(np.array(window.times_s) - expected).max() <= 0.5 / fps + 1e-9
        assert window.end_s - window.start_s == pytest.approx(1.0)
    assert [note for note in notes if f"{fps:.1f} frames/s" in note] == notes
    assert len(notes) == (1 if fps < 8 else 0)


@settings(max_examples=50)
@given(gaps=st.lists(st.floats(0.002, 0.2), min_size=60, max_size=120), hop_s=st.floats(0.1, 2.0))
def test_a_camera_of_variable_rate_gets_the_nearest_frames(gaps: list[float], hop_s: float) -> None:
    times = np.cumsum(gaps)
    buffer = ClipBuffer(make_clip(), hop_s)
    for window in cut(buffer, times.tolist()):
        expected = window.start_s + np.arange(8) / 8
        nearest = np.abs(times[:, None] - expected).min(axis=0)
        np.testing.assert_allclose(np.abs(np.array(window.times_s) - expected), nearest, atol=1e-9)
    assert buffer.restarts == buffer.ignored_frames == 0


def test_a_pause_restarts_and_is_reported() -> None:
    notes: list[str] = []
    buffer = ClipBuffer(make_clip(), on_note=notes.append)
    before = [index / 25 for index in range(40)]
    windows = cut(buffer, before + [10 + time_s for time_s in before])
    assert [window.start_s for window in windows] == [0.0, 10.0]
    assert max(windows[0].times_s) < 2
    assert min(windows[1].times_s) == 10.0
    assert buffer.restarts == 1
    assert len(notes) == 1
    assert "jump by +8.44 s" in notes[0]


def test_a_clock_that_was_set_back_restarts() -> None:
    buffer = ClipBuffer(make_clip())
    windows = cut(buffer, [100 + index / 25 for index in range(30)] + [index / 25 for index in range(30)])
    assert [window.start_s for window in windows] == [100.0, 0.0]


def test_frames_without_a_later_stamp_are_ignored() -> None:
    buffer = ClipBuffer(make_clip())
    times = [index / 25 for index in range(30)]
    (clean,) = cut(ClipBuffer(make_clip()), times)
    (window,) = cut(buffer, sorted([*times, *times[:10]]))
    assert window.times_s == clean.times_s
    assert buffer.ignored_frames == 10


def test_the_end_of_a_short_source_gives_one_window() -> None:
    buffer = ClipBuffer(make_clip())
    assert cut(buffer, [0.0, 0.1, 0.2]) == []
    (window,) = buffer.finish()
    assert window.times_s[2:] == (0.2,) * 6
    assert buffer.finish() == []
    assert ClipBuffer(make_clip()).finish() == []


def test_the_end_of_a_longer_source_adds_no_padded_window() -> None:
    buffer = ClipBuffer(make_clip())
    assert len(cut(buffer, [index / 25 for index in range(40)])) == 1
    assert buffer.finish() == []


def test_an_endless_stream_keeps_only_incomplete_windows() -> None:
    cutter = WindowCutter(make_clip(), (index * 0.25 for index in range(10**9)))
    for index in range(25 * 120):
        cutter.push(Frame(np.zeros((2, 2, 3), np.uint8), index / 25))
    assert len(cutter._open) <= 5


@pytest.mark.parametrize("time_s", [math.nan, math.inf])
def test_a_frame_without_a_time(time_s: float) -> None:
    with pytest.raises(InputError, check=names("expected a frame's time stamp")):
        cut(ClipBuffer(make_clip()), [time_s])


def test_a_hop_or_gap_that_is_not_positive() -> None:
    with pytest.raises(UsageError, check=names("expected a hop")):
        ClipBuffer(make_clip(), 0.0)
    with pytest.raises(UsageError, check=names("expected max_gap_s above 0")):
        ClipBuffer(make_clip(), max_gap_s=-1.0)
