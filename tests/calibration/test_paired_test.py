from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.calibration.paired_test import compare_paired, count_needed
from edgeact.errors import InputError, UsageError
from edgeact.records import PairedDrop

_results = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def _compare(pairs: list[tuple[bool, bool]], allowed: float = 1.0) -> PairedDrop:
    table = np.array(pairs, dtype=bool)
    return compare_paired(table[:, 0], table[:, 1], allowed)


@given(_results)
def test_compare_paired_drop_is_the_difference_of_accuracies_and_inside_its_interval(
    pairs: list[tuple[bool, bool]],
) -> None:
    drop = _compare(pairs)
    table = np.array(pairs)
    assert drop.drop_points == pytest.approx(100 * (table[:, 0].mean() - table[:, 1].mean()))
    assert drop.lost - drop.gained == int(table[:, 0].sum()) - int(table[:, 1].sum())
    assert drop.interval.low <= drop.drop_points + 100 / len(pairs)
    assert drop.interval.high >= drop.drop_points - 100 / len(pairs)


@given(_results)
def test_compare_paired_of_exchanged_models_has_the_opposite_sign(pairs: list[tuple[bool, bool]]) -> None:
    drop, exchanged = _compare(pairs), _compare([(second, first) for first, second in pairs])
    assert drop.drop_points == -exchanged.drop_points
    assert drop.p_value == pytest.approx(exchanged.p_value)
    assert drop.interval.low == pytest.approx(-exchanged.interval.high, abs=100 * 3 / (len(pairs) + 2))


def test_compare_paired_p_value_is_mcnemars_exact() -> None:
    """1 against 8 discordant videos: 2 * (C(9, 0) + C(9, 1)) / 2**9."""
    drop = _compare([(True, False)] * 8 + [(False, True)] + [(True, True)] * 91)
    assert drop.p_value == pytest.approx(2 * 10 / 512)
    assert (drop.lost, drop.gained, drop.reference_correct) == (8, 1, 99)


@pytest.mark.parametrize(
    ("pairs", "allowed", "verdict"),
    [
        ([(True, True)] * 2000, 1.0, "keeps"),
        ([(True, True)] * 30, 1.0, "undecided"),  # nothing changed, but 30 videos are too few
        ([(True, False)] * 20 + [(True, True)] * 80, 1.0, "loses"),
        ([(True, False)] * 20 + [(True, True)] * 80, 60.0, "keeps"),
        ([(True, False)] * 3 + [(True, True)] * 97, 1.0, "undecided"),
    ],
)
def test_compare_paired_verdict_needs_the_whole_interval(
    pairs: list[tuple[bool, bool]], allowed: float, verdict: str
) -> None:
    assert _compare(pairs, allowed).verdict == verdict


def test_count_needed_is_connors() -> None:
    """5 % discordant, one point: (1.95996 sqrt(.05) + .84162 sqrt(.05 - .0001))**2 / .0001."""
    assert count_needed(0.05) == 3923
    assert count_needed(0.0) == count_needed(0.01)  # a drop of one point is at least one point of difference
    assert count_needed(0.2) > count_needed(0.1) > count_needed(0.05)


@pytest.mark.parametrize(("reference", "candidate"), [(3, 4), (0, 0)])
def test_compare_paired_refuses_different_or_no_videos(reference: int, candidate: int) -> None:
    with pytest.raises(InputError):
        compare_paired(np.ones(reference, bool), np.ones(candidate, bool), 1.0)


@pytest.mark.parametrize("drop", [0.0, -0.1, 1.1])
def test_count_needed_refuses_impossible_drops(drop: float) -> None:
    with pytest.raises(UsageError):
        count_needed(0.1, drop)
