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


def _same(first: Histogram, second: Histogram) -> bool:
    return np.array_equal(first.counts, second.counts) and (first.low, first.high) == (second.low, second.high)


@given(st.lists(ARRAYS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_histogram_sum_is_independent_of_order_and_partition(arrays: list[Values], random: object) -> None:
    whole = count_magnitudes(np.concatenate(arrays))
    shuffled = sorted(arrays, key=lambda _: random.random())  # type: ignore[attr-defined]
    parts = functools.reduce(lambda total, part: total + part, map(count_magnitudes, shuffled), EMPTY)
    assert _same(parts, whole)
    assert whole.total == sum(len(array) for array in arrays)


@given(ARRAYS)
def test_count_magnitudes_counts_each_value_in_its_bin_and_keeps_exact_extrema(values: Values) -> None:
    histogram = count_magnitudes(values)
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert histogram.largest == np.abs(values).max()
    for index in np.flatnonzero(histogram.counts):
        magnitudes = np.abs(values.astype(np.float64))
        is_last = index == len(histogram.counts) - 1
        low, high = histogram.edges[index : index + 2]
        inside = (magnitudes >= low) & ((magnitudes <= high) if is_last else (magnitudes < high))
        assert histogram.counts[index] == inside.sum()


@given(ARRAYS, st.integers(-20, 20))
def test_count_magnitudes_of_doubled_values_shifts_by_whole_octaves(values: Values, power: int) -> None:
    kept = values[(np.abs(values) > 1e-20) & (np.abs(values) < 1e20)]
    if kept.size:
        histogram, scaled = count_magnitudes(kept), count_magnitudes(kept * np.float32(2.0**power))
        assert np.array_equal(histogram.counts[histogram.counts > 0], scaled.counts[scaled.counts > 0])
        assert len(scaled.counts) - len(histogram.counts) == power * 512


@given(ARRAYS, st.floats(1e-30, 1e30))
def test_share_above_is_exact_within_a_bin(values: Values, magnitude: float) -> None:
    magnitudes, histogram = np.abs(values.astype(np.float64)), count_magnitudes(values)
    share = histogram.share_above(magnitude)
    assert (magnitudes > magnitude * (1 + 2**-8)).mean() - 1e-9 <= share
    assert share <= (magnitudes >= magnitude * (1 - 2**-8)).mean() + 1e-9
    assert histogram.share_above(histogram.largest) == 0


def test_count_magnitudes_ignores_the_shape() -> None:
    values = np.random.default_rng(0).normal(size=(1, 3, 4, 5, 6)).astype(np.float32)
    assert _same(count_magnitudes(values), count_magnitudes(values.reshape(-1)))


def test_histogram_edges_are_closer_than_a_512th() -> None:
    edges = count_magnitudes(np.array([1e-3, 1e3], np.float32)).edges
    used = edges[(edges > 1e-3) & (edges < 1e3)]
    assert (np.diff(used) / used[:-1]).max() <= 2**-9


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_count_magnitudes_of_values_that_are_not_finite_has_such_extrema(value: float) -> None:
    histogram = count_magnitudes(np.array([1.0, value, 2.0], np.float32))
    assert not np.isfinite([histogram.low, histogram.high]).all()


def test_histogram_of_zeros() -> None:
    histogram = count_magnitudes(np.zeros(7, np.float32)) + count_magnitudes(np.zeros(2, np.float32))
    assert (histogram.total, histogram.largest, histogram.share_above(0.0)) == (9, 0.0, 0.0)
