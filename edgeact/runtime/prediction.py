"""What the runtime answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Prediction", "StageTimes", "WindowResult", "softmax"]

_TOP = 5


@dataclass(frozen=True)
class StageTimes:
    """Where the milliseconds of one prediction went; decoding is not in it."""

    preprocess_ms: float
    inference_ms: float
    total_ms: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """The classes of one clip; `scores` float32 (classes,), softmax, in the order of `labels`, the receiver's."""

    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    times: StageTimes

    @property
    def label(self) -> str:
        """The most likely class."""
        return self.labels[int(self.scores.argmax())]

    @property
    def top(self) -> tuple[tuple[str, float], ...]:
        """The five most likely classes with their scores, best first."""
        return self.best(_TOP)

    def best(self, count: int) -> tuple[tuple[str, float], ...]:
        """The `count` most likely classes with their scores, best first; equal scores in the order of the labels."""
        order = np.argsort(-self.scores, kind="stable")[:count]
        return tuple((self.labels[index], float(self.scores[index])) for index in order)


@dataclass(frozen=True, eq=False)
class WindowResult:
    """One window of a stream, from `start_s` to `end_s` of the source's own time."""

    start_s: float
    end_s: float
    prediction: Prediction
    windows_dropped: int = 0
    """Windows since the last result that a live source had ready while the model was busy."""
    frames_dropped: int = 0
    """Frames since the last result that a live source could not hand over in time."""
    notes: tuple[str, ...] = ()
    """What the source told since the last result: a lost connection, a camera that is too slow ..."""


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores float32 that sum to 1 over the last axis; shifted by the maximum, so that nothing overflows."""
    scores: NDArray[np.float32] = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores
