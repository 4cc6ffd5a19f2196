"""Accuracy over labelled videos, of clips and of videos, for several variants of a model on the same clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgeact.calibration.clips import oddities, video_inputs
from edgeact.calibration.datasets import VideoItem
from edgeact.calibration.intervals import proportion_interval
from edgeact.clip import ClipSpec
from edgeact.errors import DatasetError, VideoError
from edgeact.progress import OnProgress
from edgeact.records import Accuracy, ClassAccuracy
from edgeact.runtime import softmax
from edgeact.video import probe_video

__all__ = ["DataSource", "Scores", "collect_scores", "require_videos", "score_videos", "summarize"]

Array = npt.NDArray[np.float32]
Run = Callable[[Array], Array]

_BATCH = 32  # clips held at a time


@dataclass(frozen=True)
class DataSource:
    """What was evaluated, for the record."""

    dataset: str
    split: str
    digest: str
    labels: tuple[str, ...]


@dataclass
class Scores:
    """Probabilities of every clip `(classes,)`, with the video each belongs to."""

    clip_probabilities: list[Array] = field(default_factory=list)
    clip_video: list[int] = field(default_factory=list)
    video_label: list[int] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    handled: Counter[str] = field(default_factory=Counter)

    def clips(self) -> tuple[Array, npt.NDArray[np.int64]]:
        """Probabilities `(clips, classes)` and true labels `(clips,)`."""
        labels = np.array([self.video_label[video] for video in self.clip_video])
        return np.stack(self.clip_probabilities), labels

    def videos(self) -> tuple[Array, npt.NDArray[np.int64]]:
        """Mean probabilities over a video's clips `(videos, classes)` and true labels `(videos,)`."""
        probabilities, owner = np.stack(self.clip_probabilities), np.array(self.clip_video)
        means = np.stack([probabilities[owner == video].mean(axis=0) for video in range(len(self.video_label))])
        return means, np.array(self.video_label)

    @classmethod
    def concatenate(cls, parts: Iterable[Scores]) -> Scores:
        """Of all videos of `parts`, in their order: what one call over all of them would have given."""
        whole = cls()
        for part in parts:
            whole.clip_video += [len(whole.video_label) + video for video in part.clip_video]
            whole.clip_probabilities += part.clip_probabilities
            whole.video_label += part.video_label
            whole.skipped.update(part.skipped)
            whole.handled.update(part.handled)
        return whole


def collect_scores(
    runs: Mapping[str, Run], items: Sequence[VideoItem], clip: ClipSpec, on_progress: OnProgress | None = None
) -> dict[str, Scores]:
    """Run every variant over all non-overlapping clips of `items`; each clip is decoded once for all variants.

    A video that cannot be read to its end is left out whole and counted in `Scores.skipped`, oddities of those used in
    `Scores.handled`; `on_progress(done, total)` counts videos. Raises DatasetError where none could be read.
    """
    scores = score_videos(runs, items, clip, on_progress)
    for score in scores.values():
        require_videos(score, len(items))
    return scores


def require_videos(scores: Scores, wanted: int) -> None:
    """Raise DatasetError where not one of `wanted` videos could be read."""
    if not scores.video_label:
        raise DatasetError(f"none of {wanted} videos could be read; expected at least one to measure accuracy on")


def score_videos(
    runs: Mapping[str, Run], items: Sequence[VideoItem], clip: ClipSpec, on_progress: OnProgress | None = None
) -> dict[str, Scores]:
    """What `collect_scores` gives, of a part of a data set: it may be that no video of that can be read."""
    scores = {name: Scores() for name in runs}
    waiting: list[_Video] = []
    for done, item in enumerate(items, start=1):
        video = _read(item, clip)
        if video is None:
            for score in scores.values():
                score.skipped["unreadable"] += 1
        else:
            waiting.append(video)
        # One library after the other over a batch: threads of two that take turns clip by clip wait for each other.
        if done == len(items) or sum(len(one.inputs) for one in waiting) >= _BATCH:
            for name, run in runs.items():
                for one in waiting:
                    _add_video(scores[name], one, [run(array) for array in one.inputs])
            waiting = []
        if on_progress:
            on_progress(done, len(items))
    return scores


@dataclass(frozen=True)
class _Video:
    label: int
    inputs: Sequence[Array]
    oddities: tuple[str, ...]


def _read(item: VideoItem, clip: ClipSpec) -> _Video | None:
    try:
        info = probe_video(item.path)
        return _Video(item.label, list(video_inputs(item, clip, info)), oddities(info, clip))
    except VideoError:
        return None


def _add_video(score: Scores, video: _Video, outputs: Sequence[Array]) -> None:
    number = len(score.video_label)
    score.video_label.append(video.label)
    score.handled.update(video.oddities)
    for output in outputs:
        score.clip_probabilities.append(softmax(output.reshape(-1)))
        score.clip_video.append(number)


def summarize(scores: Scores, source: DataSource) -> tuple[Accuracy, Accuracy]:
    """Clip-level and video-level accuracy; the two are never mixed."""
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
