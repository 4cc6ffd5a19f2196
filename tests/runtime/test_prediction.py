"""The results of a prediction: the best classes, their order and their scores."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeact.runtime import Prediction, StageTimes, softmax

TIMES = StageTimes(1.0, 2.0, 3.0)
LABELS = tuple("abcdefg")
SCORES = np.array([0.1, 0.2, 0.3, 0.05, 0.2, 0.1, 0.05], np.float32)


def _prediction(scores: np.ndarray = SCORES) -> Prediction:
    return Prediction(LABELS[: len(scores)], scores, TIMES)


def test_top1_and_its_score() -> None:
    prediction = _prediction()
    assert (prediction.top1, prediction.label) == (2, "c")
    assert prediction.score == float(np.float32(0.3))


def test_top5_are_indices_best_first_and_equal_scores_in_label_order() -> None:
    prediction = _prediction()
    assert prediction.top5 == (2, 1, 4, 0, 5)
    assert [label for label, _ in prediction.top] == ["c", "b", "e", "a", "f"]
    assert [score for _, score in prediction.top] == [float(SCORES[index]) for index in prediction.top5]
    assert prediction.best(2) == prediction.top[:2]


def test_fewer_than_five_classes() -> None:
    prediction = _prediction(np.array([0.25, 0.75], np.float32))
    assert prediction.top5 == (1, 0)
    assert prediction.best(9) == (("b", 0.75), ("a", 0.25))


@given(arrays(np.float32, st.integers(1, 7), elements=st.floats(-80, 80, width=32)))
def test_label_score_and_indices_agree(logits: np.ndarray) -> None:
    prediction = _prediction(softmax(logits))
    assert prediction.top5[0] == prediction.top1
    assert prediction.top[0] == (prediction.label, prediction.score)
    assert 0 < prediction.score <= 1
