"""The front: nothing on it is beaten, nothing off it is not; and what is said where budgets are not kept."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.export.search.front import fastest_within, front_of, shortfall
from edgeact.records import Interval, PairedDrop, SearchTrial
from tests.export.search.making import latency

_number = st.one_of(st.integers(-3, 3).map(float), st.floats(-100, 100))
_points = st.lists(st.tuples(_number, _number), max_size=40)


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] <= other[1] and one != other


@given(_points)
def test_nothing_on_the_front_is_beaten_and_all_off_it_are(points: list[tuple[float, float]]) -> None:
    front = front_of(points)
    chosen = [points[index] for index in front]
    assert not any(_beats(one, other) for one in points for other in chosen)
    assert len(set(chosen)) == len(chosen)
    for point in points:
        assert point in chosen or any(_beats(one, point) for one in chosen)


@given(_points)
def test_it_is_monotone(points: list[tuple[float, float]]) -> None:
    chosen = [points[index] for index in front_of(points)]
    assert all(one[0] < other[0] and one[1] > other[1] for one, other in pairwise(chosen))


@given(_points, _points)
def test_more_trials_never_make_it_worse(points: list[tuple[float, float]], more: list[tuple[float, float]]) -> None:
    together = [*points, *more]
    after = [together[index] for index in front_of(together)]
    for index in front_of(points):
        assert any(one == points[index] or _beats(one, points[index]) for one in after)


def _trial(number: int, ms: float, points: float, *, within: bool = False) -> SearchTrial:
    drop = PairedDrop(
        count=100,
        reference_correct=90,
        lost=5,
        gained=5,
        drop_points=points,
        interval=Interval(low=points - 1, high=points + 1),
        p_value=1.0,
        max_drop_points=1.0,
        verdict="undecided",
        count_needed=1000,
    )
    return SearchTrial(
        number=number, ratios={}, int8=(), clip_frames=4, size=32, latency=latency(ms), drop=drop, within_budgets=within
    )


def test_the_fastest_within_both_budgets_is_chosen() -> None:
    front = [_trial(4, 1.0, 3.0), _trial(2, 2.0, 0.5, within=True), _trial(3, 3.0, 0.1, within=True)]
    chosen = fastest_within(front)
    assert chosen is not None
    assert chosen.number == 2
    assert fastest_within(front[:1]) is None


def test_it_is_reported_how_close_the_front_came_and_what_would_be_kept() -> None:
    told = shortfall([_trial(4, 7.0, 2.341), _trial(2, 9.123, 0.5)], 8.0, 1.0)
    assert "within --max-drop 1 the fastest is trial 2 with 9.12 ms, 1.14 times the budget: --max-ms 9.13" in told
    assert "within --max-ms 8 the most accurate is trial 4, which loses 2.34 points: --max-drop 2.35" in told


@pytest.mark.parametrize(
    ("max_ms", "said"),
    [
        (0.5, "the fastest trial of all is 4 with 7 ms, at 2.34 points"),
        (None, "of all trials the most accurate is trial 4"),
    ],
)
def test_budgets_far_from_all(max_ms: float | None, said: str) -> None:
    assert said in shortfall([_trial(4, 7.0, 2.341)], max_ms, 1.0)


def test_if_nothing_could_be_measured() -> None:
    assert "no trial could be measured" in shortfall([], 1.0, 1.0)
