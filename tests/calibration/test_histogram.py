"""Counting loses nothing: neither by the order of the clips, nor by their split, nor by a larger value at last."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edgeact.calibration.histogram import EMPTY, Histogram, count_magnitudes

Values = NDArray[np.float32]

FINITE = st.floats(-(2.0**99), 2.0**99, width=32)
ARRAYS = hnp.arrays(np.float32, st.integers(1, 60), elements=FINITE)


def _same(one: Histogram, other: Histogram) -> bool:
    return np.array_equal(one.counts, other.counts) and (one.low, one.high) == (other.low, other.high)


@given(st.lists(ARRAYS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_and_the_split_change_nothing(arrays: list[Values], random: object) -> None:
    whole = count_magnitudes(np.concatenate(arrays))
    shuffled = sorted(arrays, key=lambda _: random.random())  # type: ignore[attr-defined]
    parts = functools.reduce(lambda one, other: one + other, map(count_magnitudes, shuffled), EMPTY)
    assert _same(parts, whole)
    assert whole.total == sum(len(array) for array in arrays)


@given(ARRAYS)
def test_every_value_lies_in_its_bin_and_the_extrema_are_exact(values: Values) -> None:
    found = count_magnitudes(values)
    assert (found.low, found.high) == (values.min(), values.max())
    assert found.largest == np.abs(values).max()
    for index in np.flatnonzero(found.counts):
        magnitudes = np.abs(values.astype(np.float64))
        is_last = index == len(found.counts) - 1
        low, high = found.edges[index : index + 2]
        inside = (magnitudes >= low) & ((magnitudes <= high) if is_last else (magnitudes < high))
        assert found.counts[index] == inside.sum()


@given(ARRAYS, st.integers(-20, 20))
def test_a_doubling_of_the_values_moves_whole_bins(values: Values, power: int) -> None:
    kept = values[(np.abs(values) > 1e-20) & (np.abs(values) < 1e20)]
    if kept.size:
        one, other = count_magnitudes(kept), count_magnitudes(kept * np.float32(2.0**power))
        assert np.array_equal(one.counts[one.counts > 0], other.counts[other.counts > 0])
        assert len(other.counts) - len(one.counts) == power * 512


@given(ARRAYS, st.floats(1e-30, 1e30))
def test_the_share_above_is_that_of_the_values_within_a_bin(values: Values, magnitude: float) -> None:
    magnitudes, found = np.abs(values.astype(np.float64)), count_magnitudes(values)
    share = found.share_above(magnitude)
    assert (magnitudes > magnitude * (1 + 2**-8)).mean() - 1e-9 <= share
    assert share <= (magnitudes >= magnitude * (1 - 2**-8)).mean() + 1e-9
    assert found.share_above(found.largest) == 0


def test_shapes_are_all_one() -> None:
    values = np.random.default_rng(0).normal(size=(1, 3, 4, 5, 6)).astype(np.float32)
    assert _same(count_magnitudes(values), count_magnitudes(values.reshape(-1)))


def test_bins_are_fine() -> None:
    edges = count_magnitudes(np.array([1e-3, 1e3], np.float32)).edges
    used = edges[(edges > 1e-3) & (edges < 1e3)]
    assert (np.diff(used) / used[:-1]).max() <= 2**-9


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows_in_the_extrema(odd: float) -> None:
    found = count_magnitudes(np.array([1.0, odd, 2.0], np.float32))
    assert not np.isfinite([found.low, found.high]).all()


def test_nothing_but_zeros() -> None:
    found = count_magnitudes(np.zeros(7, np.float32)) + count_magnitudes(np.zeros(2, np.float32))
    assert (found.total, found.largest, found.share_above(0.0)) == (9, 0.0, 0.0)
