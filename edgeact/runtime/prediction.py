"""Results of the runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Prediction", "StageTimes", "WindowResult", "softmax"]

_TOP = 5


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds of each stage of one prediction; video decoding is not included."""

    preprocess_ms: float
    inference_ms: float
    total_ms: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """The classification of one clip.

    `scores` are softmax probabilities, float32 (classes,), in the order of `labels`; the array belongs to the receiver.
    """

    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    times: StageTimes

    @property
    def top1(self) -> int:
        """Index of the most likely class; of equal scores the first."""
        return int(self.scores.argmax())

    @property
    def top5(self) -> tuple[int, ...]:
        """Indices of the five most likely classes, best first; equal scores in the order of the labels."""
        return self._ranked(_TOP)

    @property
    def label(self) -> str:
        """Name of the most likely class."""
        return self.labels[self.top1]

    @property
    def score(self) -> float:
        """Score of the most likely class, 0 to 1."""
        return float(self.scores[self.top1])

    @property
    def top(self) -> tuple[tuple[str, float], ...]:
        """The five most likely classes as (label, score), best first."""
        return self.best(_TOP)

    def best(self, count: int) -> tuple[tuple[str, float], ...]:
        """Return the `count` most likely classes as (label, score), best first; equal scores in label order."""
        return tuple((self.labels[index], float(self.scores[index])) for index in self._ranked(count))

    def _ranked(self, count: int) -> tuple[int, ...]:
        return tuple(int(index) for index in np.argsort(-self.scores, kind="stable")[:count])


@dataclass(frozen=True, eq=False)
class WindowResult:
    """One window of a stream, from `start_s` to `end_s` of the source's own time."""

    start_s: float
    end_s: float
    prediction: Prediction
    windows_dropped: int = 0
    """Windows of a live source since the last result that were complete while the model was busy."""
    frames_dropped: int = 0
    """Frames of a live source since the last result that were not read in time."""
    notes: tuple[str, ...] = ()
    """Messages of the source since the last result, e.g. a lost connection or a camera that is too slow."""


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax over the last axis, float32; shifted by the maximum, so that it cannot overflow."""
    scores: NDArray[np.float32] = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores
