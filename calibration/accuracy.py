"""Measure top-1 and top-5 accuracy of several models on the same labeled videos, by clip and by video."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgeact.calibration.clips import find_irregularities, video_inputs
from edgeact.calibration.datasets import VideoItem
from edgeact.calibration.intervals import proportion_interval
from edgeact.clip import ClipSpec
from edgeact.errors import DatasetError, VideoError
from edgeact.progress import OnProgress
from edgeact.records import Accuracy, ClassAccuracy
from edgeact.runtime import softmax
from edgeact.video import probe_video

__all__ = ["BatchRun", "DataSource", "Scores", "collect_scores", "require_videos", "score_videos", "summarize"]

Array = npt.NDArray[np.float32]
Run = Callable[[Array], Array]

_BATCH = 32  # clips in memory at a time


@dataclass(frozen=True)
class BatchRun:
    """A model that takes several clips at once: float32 `(N, 3, T, H, W)` to logits `(N, classes)`."""

    run: Run
    size: int = 4
    """The largest N. PyTorch's convolutions on a CPU need a fourth of the time per clip as soon as N is above 1."""


@dataclass(frozen=True)
class DataSource:
    """The evaluated data, as the record names them."""

    dataset: str
    split: str
    digest: str
    labels: tuple[str, ...]


@dataclass
class Scores:
    """Class probabilities of each clip, float32 `(classes,)`, and the index of its video.

    `video_label` holds the true class of each video; `skipped` and `handled` count videos by reason.
    """

    clip_probabilities: list[Array] = field(default_factory=list)
    clip_video: list[int] = field(default_factory=list)
    video_label: list[int] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    handled: Counter[str] = field(default_factory=Counter)

    def clips(self) -> tuple[Array, npt.NDArray[np.int64]]:
        """Return probabilities float32 `(clips, classes)` and true labels int64 `(clips,)`."""
        labels = np.array([self.video_label[video] for video in self.clip_video])
        return np.stack(self.clip_probabilities), labels

    def videos(self) -> tuple[Array, npt.NDArray[np.int64]]:
        """Return mean probabilities over each video's clips, float32 `(videos, classes)`, and labels `(videos,)`."""
        probabilities, owner = np.stack(self.clip_probabilities), np.array(self.clip_video)
        means = np.stack([probabilities[owner == video].mean(axis=0) for video in range(len(self.video_label))])
        return means, np.array(self.video_label)

    @classmethod
    def concatenate(cls, parts: Iterable[Scores]) -> Scores:
        """Concatenate scores of parts of a data set: the result of one call over all their videos, in their order."""
        whole = cls()
        for part in parts:
            whole.clip_video += [len(whole.video_label) + video for video in part.clip_video]
            whole.clip_probabilities += part.clip_probabilities
            whole.video_label += part.video_label
            whole.skipped.update(part.skipped)
            whole.handled.update(part.handled)
        return whole


def collect_scores(
    runs: Mapping[str, Run | BatchRun],
    items: Sequence[VideoItem],
    clip: ClipSpec,
    on_progress: OnProgress | None = None,
) -> dict[str, Scores]:
    """Run each model on all non-overlapping clips of `items`; a clip is decoded once for all models.

    `runs` maps names to functions from a clip, float32 `(1, 3, T, H, W)`, to its logits. A video that cannot be read to
    its end is skipped and counted in `Scores.skipped`; irregularities of the videos used are counted in
    `Scores.handled`. `on_progress(done, total)` counts videos. Raises DatasetError if no video can be read.
    """
    scores = score_videos(runs, items, clip, on_progress)
    for score in scores.values():
        require_videos(score, len(items))
    return scores


def require_videos(scores: Scores, wanted: int) -> None:
    """Raise DatasetError if none of the `wanted` videos was read."""
    if not scores.video_label:
        raise DatasetError(f"none of {wanted} videos could be read; expected at least one to measure accuracy on")


def score_videos(
    runs: Mapping[str, Run | BatchRun],
    items: Sequence[VideoItem],
    clip: ClipSpec,
    on_progress: OnProgress | None = None,
) -> dict[str, Scores]:
    """Score a part of a data set as `collect_scores` does, but accept that no video of the part can be read."""
    scores = {name: Scores() for name in runs}
    batch: list[_Video] = []
    for done, item in enumerate(items, start=1):
        read = _read(item, clip)
        if read is None:
            for score in scores.values():
                score.skipped["unreadable"] += 1
        else:
            batch.append(read)
        # One library after the other on a batch: thread pools that alternate clip by clip wait for each other.
        if done == len(items) or sum(len(video.inputs) for video in batch) >= _BATCH:
            for name, run in runs.items():
                logits = _logits(run, [array for video in batch for array in video.inputs])
                for video in batch:
                    _add_video(scores[name], video, itertools.islice(logits, len(video.inputs)))
            batch = []
        if on_progress:
            on_progress(done, len(items))
    return scores


@dataclass(frozen=True)
class _Video:
    label: int
    inputs: Sequence[Array]
    irregularities: tuple[str, ...]


def _read(item: VideoItem, clip: ClipSpec) -> _Video | None:
    try:
        info = probe_video(item.path)
        return _Video(item.label, list(video_inputs(item, clip, info)), find_irregularities(info, clip))
    except VideoError:
        return None


def _logits(run: Run | BatchRun, clips: Sequence[Array]) -> Iterator[Array]:
    """Yield the logits of each clip, in order."""
    if not isinstance(run, BatchRun):
        yield from map(run, clips)
        return
    for start in range(0, len(clips), run.size):
        yield from run.run(np.concatenate(clips[start : start + run.size]))


def _add_video(score: Scores, video: _Video, outputs: Iterable[Array]) -> None:
    number = len(score.video_label)
    score.video_label.append(video.label)
    score.handled.update(video.irregularities)
    for output in outputs:
        score.clip_probabilities.append(softmax(output.reshape(-1)))
        score.clip_video.append(number)


def summarize(scores: Scores, source: DataSource) -> tuple[Accuracy, Accuracy]:
    """Return the accuracy by clip and the accuracy by video."""
    clip_probabilities, clip_labels = scores.clips()
    video_probabilities, video_labels = scores.videos()
    counts = {"skipped": dict(scores.skipped), "handled": dict(scores.handled)}
    clips = _accuracy("clip", clip_probabilities, clip_labels, source)
    videos = _accuracy("video", video_probabilities, video_labels, source)
    return clips.model_copy(update=counts), videos.model_copy(update=counts)


def _accuracy(
    level: Literal["clip", "video"], probabilities: Array, labels: npt.NDArray[np.int64], source: DataSource
) -> Accuracy:
    classes = len(source.labels)
    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == labels).sum())
    confusion = np.zeros((classes, classes), dtype=int)
    np.add.at(confusion, (labels, predicted), 1)
    per_class = tuple(
        ClassAccuracy(label=name, count=int(row.sum()), correct=int(row[index]))
        for index, (name, row) in enumerate(zip(source.labels, confusion, strict=True))
    )
    return Accuracy(
        level=level,
        dataset=source.dataset,
        split=source.split,
        data_digest=source.digest,
        count=len(labels),
        correct=correct,
        top1=correct / len(labels),
        top1_interval=proportion_interval(correct, len(labels)),
        top5=_top5(probabilities, labels) if classes > 5 else None,
        per_class=per_class,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def _top5(probabilities: Array, labels: npt.NDArray[np.int64]) -> float:
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    return float((best == labels[:, None]).any(axis=1).mean())
