from __future__ import annotations

import pytest

from edgeact.phrases import phrase
from edgeact.reasons import Note, VideosSkipped
from edgeact.report.view import Mistake, frequent_mistakes, row_shares
from tests.report.making import LABELS, make_accuracy, make_view


def test_frequent_mistakes_are_sorted_by_count_without_correct_predictions() -> None:
    mistakes = frequent_mistakes(("a", "b", "c"), ((5, 1, 0), (0, 9, 0), (3, 2, 4)))
    assert mistakes == [Mistake("c", "a", 3, 9), Mistake("c", "b", 2, 9), Mistake("a", "b", 1, 6)]
    assert len(frequent_mistakes(LABELS, make_accuracy(0.9).confusion, limit=4)) == 4


@pytest.mark.parametrize(("row", "shares"), [((3, 1, 0), (0.75, 0.25, 0.0)), ((0, 0), (0.0, 0.0)), ((), ())])
def test_row_shares_are_fractions_of_the_true_class(row: tuple[int, ...], shares: tuple[float, ...]) -> None:
    assert row_shares(row) == shares


def test_bundle_view_decisions_are_phrased_if_typed() -> None:
    view = make_view()
    assert view.measurements
    assert view.decisions == view.manifest.decisions
    decisions = (Note(text="the frame rate is assumed"), VideosSkipped(count=2))
    typed = view.model_copy(update={"measurements": view.measurements.model_copy(update={"decisions": decisions})})
    assert typed.decisions == tuple(map(phrase, decisions))


def test_bundle_view_golden_prediction_is_the_largest_logit() -> None:
    view = make_view()
    assert view.golden_prediction == LABELS[7]
    bare = view.model_copy(update={"manifest": view.manifest.model_copy(update={"golden": None})})
    assert bare.golden_prediction is None
