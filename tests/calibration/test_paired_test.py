"""Drops between two models on the same videos: what is certain, what is not, and how many videos certainty takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.calibration.paired_test import compare_paired, count_needed, drop_interval
from edgeact.errors import InputError, UsageError
from edgeact.records import PairedDrop

_results = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def _compare(pairs: list[tuple[bool, bool]], allowed: float = 1.0) -> PairedDrop:
    table = np.array(pairs, dtype=bool)
    return compare_paired(table[:, 0], table[:, 1], allowed)


@given(_results)
def test_the_drop_is_the_difference_of_the_accuracies_and_lies_in_its_interval(pairs: list[tuple[bool, bool]]) -> None:
    found = _compare(pairs)
    table = np.array(pairs)
    assert found.drop_points == pytest.approx(100 * (table[:, 0].mean() - table[:, 1].mean()))
    assert found.lost - found.gained == int(table[:, 0].sum()) - int(table[:, 1].sum())
    assert found.interval.low <= found.drop_points + 100 / len(pairs)
    assert found.interval.high >= found.drop_points - 100 / len(pairs)


@given(_results)
def test_exchanged_models_have_the_drop_with_the_other_sign(pairs: list[tuple[bool, bool]]) -> None:
    one, other = _compare(pairs), _compare([(second, first) for first, second in pairs])
    assert one.drop_points == -other.drop_points
    assert one.p_value == pytest.approx(other.p_value)
    assert one.interval.low == pytest.approx(-other.interval.high, abs=100 * 3 / (len(pairs) + 2))


def test_mcnemar_is_the_exact_one() -> None:
    """1 against 8 discordant: 2 * (C(9, 0) + C(9, 1)) / 2**9."""
    found = _compare([(True, False)] * 8 + [(False, True)] + [(True, True)] * 91)
    assert found.p_value == pytest.approx(2 * 10 / 512)
    assert (found.lost, found.gained, found.reference_correct) == (8, 1, 99)


@pytest.mark.parametrize(
    ("pairs", "allowed", "verdict"),
    [
        ([(True, True)] * 2000, 1.0, "keeps"),
        ([(True, True)] * 30, 1.0, "undecided"),  # nothing changed, but on 30 videos that says little
        ([(True, False)] * 20 + [(True, True)] * 80, 1.0, "loses"),
        ([(True, False)] * 20 + [(True, True)] * 80, 60.0, "keeps"),
        ([(True, False)] * 3 + [(True, True)] * 97, 1.0, "undecided"),
    ],
)
def test_the_verdict_is_the_whole_intervals(pairs: list[tuple[bool, bool]], allowed: float, verdict: str) -> None:
    assert _compare(pairs, allowed).verdict == verdict


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Against what the counts were drawn from: 4 % lost, 2 % gained, of 300."""
    rng = np.random.default_rng(1)
    covered = 0
    for lost, gained, _ in rng.multinomial(300, (0.04, 0.02, 0.94), size=300):
        interval = drop_interval(300, int(lost), int(gained))
        covered += interval.low <= 2.0 <= interval.high
    assert 0.92 <= covered / 300 <= 0.99


def test_the_number_of_videos_is_connors() -> None:
    """5 % discordant, one point: (1.95996 sqrt(.05) + .84162 sqrt(.05 - .0001))**2 / .0001."""
    assert count_needed(0.05) == 3923
    assert count_needed(0.0) == count_needed(0.01)  # a drop of one point is at least one point of difference
    assert count_needed(0.2) > count_needed(0.1) > count_needed(0.05)


def test_a_test_with_that_many_videos_has_the_power() -> None:
    count, rng = count_needed(0.06, 0.04), np.random.default_rng(2)
    draws = rng.multinomial(count, (0.05, 0.01, 0.94), size=400)
    found = sum(drop_interval(count, int(lost), int(gained)).low > 0 for lost, gained, _ in draws)
    assert 0.7 <= found / 400 <= 0.9


def test_different_videos_and_impossible_drops_are_refused() -> None:
    with pytest.raises(InputError, match="expected the same videos for both models"):
        compare_paired(np.ones(3, bool), np.ones(4, bool), 1.0)
    with pytest.raises(InputError, match="expected the same videos"):
        compare_paired(np.ones(0, bool), np.ones(0, bool), 1.0)
    with pytest.raises(UsageError, match="a drop within"):
        count_needed(0.1, 0.0)
