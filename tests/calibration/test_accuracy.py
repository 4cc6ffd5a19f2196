from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgeact.calibration.accuracy import BatchRun, DataSource, Scores, collect_scores, summarize
from edgeact.calibration.datasets import VideoItem
from edgeact.calibration.intervals import proportion_interval
from edgeact.errors import DatasetError
from edgeact.video import write_video
from tests.video.clips import make_clip, motion


def _source(classes: int) -> DataSource:
    return DataSource("made", "test", "0" * 64, tuple(f"c{index}" for index in range(classes)))


def _one_hot(winner: int, classes: int, share: float) -> np.ndarray:
    rest = (1 - share) / (classes - 1)
    return np.where(np.arange(classes) == winner, share, rest).astype(np.float32)


def test_summarize_counts_clips_and_videos_separately() -> None:
    """Video 0 has two clips slightly wrong and one confidently right; video 1 has one wrong clip."""
    scores = Scores(
        [_one_hot(1, 3, 0.5), _one_hot(1, 3, 0.5), _one_hot(0, 3, 0.98), _one_hot(2, 3, 0.9)], [0, 0, 0, 1], [0, 1]
    )
    clips, videos = summarize(scores, _source(3))
    assert (clips.level, clips.count, clips.correct) == ("clip", 4, 1)
    assert (videos.level, videos.count, videos.correct) == ("video", 2, 1)
    assert clips.confusion == ((1, 2, 0), (0, 0, 1), (0, 0, 0))
    assert videos.confusion == ((1, 0, 0), (0, 0, 1), (0, 0, 0))
    assert [(part.label, part.count, part.correct) for part in videos.per_class] == [
        ("c0", 1, 1),
        ("c1", 1, 0),
        ("c2", 0, 0),
    ]


@pytest.mark.parametrize("correct", [0, 3, 8])
def test_summarize_has_the_proportion_interval(correct: int) -> None:
    probabilities = [_one_hot(0 if index < correct else 1, 2, 0.9) for index in range(8)]
    for accuracy in summarize(Scores(probabilities, list(range(8)), [0] * 8), _source(2)):
        assert accuracy.top1 == correct / 8
        assert accuracy.top1_interval == proportion_interval(correct, 8)


@pytest.mark.parametrize(("classes", "top5"), [(5, None), (6, 0.5)])
def test_summarize_has_top5_from_six_classes_on(classes: int, top5: float | None) -> None:
    rising = np.linspace(0.1, 1.0, classes).astype(np.float32)
    scores = Scores([rising, rising], [0, 1], [0, 1])
    assert {accuracy.top5 for accuracy in summarize(scores, _source(classes))} == {top5}


@pytest.fixture
def items(tmp_path: Path) -> list[VideoItem]:
    """A video of three windows, a broken video, a video of a single window."""
    for name, seconds in (("long", 3.0), ("short", 1.0)):
        write_video(tmp_path / f"{name}.mp4", motion(16.0, seconds), 16.0)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    return [VideoItem(tmp_path / f"{name}.mp4", index, name) for index, name in enumerate(("long", "broken", "short"))]


def test_collect_scores_runs_all_models_on_the_same_clips_and_skips_broken_videos(items: list[VideoItem]) -> None:
    inputs: dict[str, list[bytes]] = {"a": [], "b": []}

    def runner(name: str, winner: int) -> object:
        def run(clip: np.ndarray) -> np.ndarray:
            inputs[name].append(clip.tobytes())
            logits: np.ndarray = np.eye(3, dtype=np.float32)[winner] * 1000  # softmax must not overflow
            return logits

        return run

    progress: list[tuple[int, int]] = []
    runs = {"a": runner("a", 0), "b": runner("b", 2)}
    scores = collect_scores(runs, items, make_clip(), lambda done, total: progress.append((done, total)))  # type: ignore[arg-type]
    assert inputs["a"] == inputs["b"]
    assert len(inputs["a"]) == 4
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert scores["a"].skipped == Counter(unreadable=1)
    assert scores["a"].clip_video == [0, 0, 0, 1]
    assert [summarize(scores[name], _source(3))[0].correct for name in ("a", "b")] == [3, 1]
    assert [summarize(scores[name], _source(3))[1].correct for name in ("a", "b")] == [1, 1]
    assert summarize(scores["a"], _source(3))[1].skipped == {"unreadable": 1}


def test_collect_scores_refuses_data_without_a_readable_video(items: list[VideoItem]) -> None:
    with pytest.raises(DatasetError):
        collect_scores({"a": lambda clip: np.zeros(3, np.float32)}, items[1:2], make_clip())


def test_a_batch_run_gives_the_scores_of_single_clips(items: list[VideoItem]) -> None:
    batches: list[int] = []

    def run(clips: np.ndarray) -> np.ndarray:
        batches.append(len(clips))
        means: np.ndarray = clips.mean(axis=(2, 3, 4))
        return means

    scores = collect_scores({"single": run, "batch": BatchRun(run, 3)}, items, make_clip())
    assert batches == [1, 1, 1, 1, 3, 1]
    for single, batch in zip(scores["single"].clips(), scores["batch"].clips(), strict=True):
        np.testing.assert_array_equal(single, batch)
    assert scores["batch"].clip_video == scores["single"].clip_video


def test_collect_scores_counts_irregular_videos(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", motion(16.0, 0.3), 16.0)
    runs = {"zeros": lambda _: np.zeros((1, 2), np.float32)}
    scores = collect_scores(runs, [VideoItem(tmp_path / "short.mp4", 0, "g")], make_clip())
    accuracies = summarize(scores["zeros"], _source(2))
    assert [dict(accuracy.handled) for accuracy in accuracies] == [
        {"shorter than one clip, last frame repeated": 1}
    ] * 2
