"""Streams: windows by time stamp from files of any rate, and live sources that never lag."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeact import runtime
from edgeact.errors import UsageError, VideoError
from edgeact.runtime import Prediction, Recognizer, StageTimes, WindowResult
from edgeact.runtime.stream import live_results
from edgeact.video import ClipBuffer, Frame, write_video
from tests.messages import names
from tests.runtime.making import CLIP, LABELS, colored

SECOND = CLIP.duration_s  # 0.5 s: four frames at 8 frames/s


def _colour_video(path: Path, fps: float) -> Path:
    """Half a second of red, then green, then blue."""
    count = round(SECOND * fps)
    write_video(path, np.concatenate([colored(channel, count, (48, 64)) for channel in range(3)]), fps)
    return path


@pytest.fixture
def recognizer(bundle_path: Path) -> Iterator[Recognizer]:
    with runtime.load(bundle_path, threads=1) as opened:
        yield opened


@pytest.mark.parametrize("fps", [8, 12, 24, 30, 60])
def test_the_windows_do_not_depend_on_the_rate(recognizer: Recognizer, tmp_path: Path, fps: float) -> None:
    results = list(recognizer.stream(_colour_video(tmp_path / "v.mp4", fps)))
    assert [result.prediction.label for result in results] == ["red", "green", "blue"]
    assert [result.start_s for result in results] == pytest.approx([0.0, 0.5, 1.0])
    assert [result.end_s for result in results] == pytest.approx([0.5, 1.0, 1.5])
    assert all(result.windows_dropped == result.frames_dropped == 0 for result in results)


def test_a_slow_source_is_reported(recognizer: Recognizer, tmp_path: Path) -> None:
    write_video(tmp_path / "slow.mp4", colored(0, 12, (48, 64)), 4.0)
    notes = [note for result in recognizer.stream(tmp_path / "slow.mp4") for note in result.notes]
    assert len(notes) == 1
    assert "4.0 frames/s, the model was trained at 8" in notes[0]


def test_windows_overlap_when_asked_to(recognizer: Recognizer, tmp_path: Path) -> None:
    starts = [result.start_s for result in recognizer.stream(_colour_video(tmp_path / "v.mp4", 24), hop_s=0.25)]
    assert starts == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


def test_a_short_video_gives_one_window(recognizer: Recognizer, tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", colored(2, 2, (48, 64)), 24.0)
    assert [result.prediction.label for result in recognizer.stream(str(tmp_path / "short.mp4"))] == ["blue"]


def test_sources_that_do_not_work(recognizer: Recognizer, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    for source in (tmp_path / "none.mp4", str(tmp_path / "broken.mp4"), "rtsp://127.0.0.1:9/none"):
        with pytest.raises(VideoError):
            next(recognizer.stream(source))
    with pytest.raises(UsageError, check=names("hop")):
        next(recognizer.stream(tmp_path / "broken.mp4", hop_s=0))


def test_a_stream_that_is_closed_early_releases_the_file(recognizer: Recognizer, tmp_path: Path) -> None:
    results = recognizer.stream(_colour_video(tmp_path / "v.mp4", 24))
    next(results)
    results.close()
    assert list(results) == []


class Camera:
    """A live source that gives a frame every `interval_s` of real time until it is closed."""

    def __init__(self, fps: float, frames: int = 10_000, failure: Exception | None = None) -> None:
        self.dropped_frames = 0
        self.given = 0
        self.closed = threading.Event()
        self._interval_s = 1 / fps
        self._frames = frames
        self._failure = failure

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._frames):
            if self.closed.wait(self._interval_s):
                return
            self.given += 1
            yield Frame(colored(0, 1)[0], index * self._interval_s)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        self.closed.set()


def _predict(seconds: float = 0.0) -> Any:
    def predict(frames: Sequence[Any]) -> Prediction:
        assert len(frames) == CLIP.clip_frames
        time.sleep(seconds)
        return Prediction(LABELS, np.full(4, 0.25, np.float32), StageTimes(0, 0, 0))

    return predict


FAST = CLIP.model_copy(update={"fps": 200.0})  # a window of 20 ms, so that tests take little time


def test_a_live_source_never_lags() -> None:
    """The model takes five windows' time: what it gets is always the newest, and the rest is counted."""
    camera = Camera(fps=200.0)
    results = live_results(_predict(0.1), ClipBuffer(FAST), camera, [])
    taken = []
    for result in results:
        taken.append(result)
        behind = camera.given / 200.0 - result.end_s
        assert behind < 0.1 + 3 * FAST.duration_s
        if len(taken) == 6:
            break
    results.close()
    dropped = sum(result.windows_dropped for result in taken)
    assert dropped >= 10
    covered = round((taken[-1].end_s - taken[0].start_s) / FAST.duration_s)
    assert covered == len(taken) + dropped - taken[0].windows_dropped


def test_a_live_source_that_is_slower_than_the_model_loses_nothing() -> None:
    camera = Camera(fps=200.0, frames=40)
    starts = [result.start_s for result in live_results(_predict(), ClipBuffer(FAST), camera, [])]
    assert starts == pytest.approx(np.arange(10) * FAST.duration_s)


def test_closing_a_live_stream_releases_the_source() -> None:
    before = threading.active_count()
    camera = Camera(fps=200.0)
    results = live_results(_predict(), ClipBuffer(FAST), camera, [])
    next(results)
    results.close()
    assert camera.closed.is_set()
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [VideoError("unplugged"), KeyboardInterrupt()])
def test_an_error_while_predicting_releases_the_source(error: BaseException) -> None:
    def predict(frames: Sequence[Any]) -> Prediction:
        raise error

    camera = Camera(fps=200.0)
    with pytest.raises(type(error)):
        list(live_results(predict, ClipBuffer(FAST), camera, []))
    assert camera.closed.is_set()


def test_a_source_that_fails_is_reported_after_its_last_window() -> None:
    camera = Camera(fps=200.0, frames=8, failure=VideoError("unplugged"))
    seen: list[WindowResult] = []
    with pytest.raises(VideoError, check=names("unplugged")):
        seen.extend(live_results(_predict(), ClipBuffer(FAST), camera, []))
    assert seen
    assert camera.closed.is_set()


def test_lost_frames_and_notes_reach_the_next_result() -> None:
    camera, notes = Camera(fps=200.0, frames=12), ["reconnecting"]
    camera.dropped_frames = 7
    first, *rest = live_results(_predict(), ClipBuffer(FAST), camera, notes)
    assert (first.frames_dropped, first.notes) == (7, ("reconnecting",))
    assert all(result.frames_dropped == 0 and not result.notes for result in rest)
