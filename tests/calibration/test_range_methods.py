from __future__ import annotations

import typing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edgeact.calibration.histogram import EMPTY, count_magnitudes
from edgeact.calibration.range_methods import (
    INT8_MAX,
    METHODS,
    MethodName,
    entropy,
    minmax,
    mse,
    percentile,
    squared_errors,
)

Values = NDArray[np.float32]

ARRAYS = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32))
NAMES = sorted(METHODS)


def _squared_error(values: Values, limit: float) -> float:
    scale = limit / INT8_MAX
    wide = values.astype(np.float64)
    return float(np.square(wide - np.clip(np.rint(wide / scale), -INT8_MAX, INT8_MAX) * scale).sum())


def _samples(kind: str, seed: int = 0) -> Values:
    rng = np.random.default_rng(seed)
    drawn = {
        "normal": rng.normal(size=200_000),
        "relu": np.maximum(rng.normal(size=200_000), 0),
        "heavy": rng.standard_t(3, size=200_000),
        "uniform": rng.uniform(-1, 1, size=200_000),
        "outlier": np.append(rng.normal(size=200_000), 30.0),
    }
    return drawn[kind].astype(np.float32)


KINDS = ["normal", "relu", "heavy", "uniform", "outlier"]


def test_methods_has_an_entry_for_each_name() -> None:
    assert set(METHODS) == set(typing.get_args(MethodName))


@pytest.mark.parametrize("name", NAMES)
@given(values=ARRAYS)
@settings(max_examples=40)
def test_methods_return_a_limit_within_the_observed_magnitudes(name: MethodName, values: Values) -> None:
    largest = float(np.abs(values).max())
    limit = METHODS[name](count_magnitudes(values))
    assert 0 <= limit <= largest
    assert (limit == 0) == (largest == 0)


@pytest.mark.parametrize("name", NAMES)
@given(values=ARRAYS, power=st.integers(-12, 12))
@settings(max_examples=40)
def test_methods_scale_exactly_with_powers_of_two(name: MethodName, values: Values, power: int) -> None:
    values = values[np.abs(values) > 1e-20]
    if values.size:
        factor = 2.0**power
        scaled = METHODS[name](count_magnitudes(values * np.float32(factor)))
        assert scaled == pytest.approx(METHODS[name](count_magnitudes(values)) * factor, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@given(arrays=st.lists(ARRAYS, min_size=2, max_size=4))
@settings(max_examples=25)
def test_methods_are_independent_of_the_order_of_clips(name: MethodName, arrays: list[Values]) -> None:
    there, back = (sum(map(count_magnitudes, order), EMPTY) for order in (arrays, arrays[::-1]))
    assert METHODS[name](there) == METHODS[name](back)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_methods_scale_approximately_with_any_factor(name: MethodName, kind: str) -> None:
    values = _samples(kind)
    limits = [METHODS[name](count_magnitudes(values * np.float32(factor))) / factor for factor in (1.0, 1.37, 0.011)]
    # Limits with nearly the same divergence differ more in value.
    assert max(limits) / min(limits) < {"entropy": 1.3, "mse": 1.05}.get(name, 1.005)


@given(values=ARRAYS)
def test_percentile_100_equals_minmax(values: Values) -> None:
    assert percentile(count_magnitudes(values), 100.0) == minmax(count_magnitudes(values)) == np.abs(values).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percent", [50.0, 99.0, 99.99])
def test_percentile_equals_numpys_within_a_bin(kind: str, percent: float) -> None:
    values = _samples(kind)
    expected = np.percentile(np.abs(values), percent)
    limit = percentile(count_magnitudes(values), percent)
    assert limit == pytest.approx(expected if expected > 0 else minmax(count_magnitudes(values)), rel=2**-8)


@given(values=ARRAYS, percents=st.tuples(st.floats(1, 100), st.floats(1, 100)))
def test_percentile_never_clips_more_with_a_higher_percentage(values: Values, percents: tuple[float, float]) -> None:
    histogram = count_magnitudes(values)
    shares = [histogram.share_above(percentile(histogram, percent)) for percent in sorted(percents)]
    assert shares[1] <= shares[0] + 1e-9 or shares[0] == 0  # if the percentile is 0, the whole range is kept


def test_percentile_keeps_the_few_values_of_a_tensor_of_zeros() -> None:
    values = np.zeros(1_000_000, np.float32)
    values[:3] = (1.0, 2.0, -3.0)
    assert percentile(count_magnitudes(values)) == 3.0


@given(values=ARRAYS)
def test_mse_has_no_larger_error_than_minmax_on_the_histogram(values: Values) -> None:
    histogram = count_magnitudes(values)
    errors = squared_errors(histogram, np.array([mse(histogram), minmax(histogram)]))
    assert errors[0] <= errors[1] * (1 + 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_mse_is_near_the_optimum_on_the_values(kind: str) -> None:
    values = _samples(kind)
    limit = mse(count_magnitudes(values))
    best = min(_squared_error(values, tried) for tried in np.abs(values).max() * np.geomspace(1 / 60, 1, 200))
    assert _squared_error(values, limit) <= best * 1.01
    assert _squared_error(values, limit) <= _squared_error(values, minmax(count_magnitudes(values))) * 1.001


@pytest.mark.parametrize("name", ["percentile", "entropy", "mse"])
def test_methods_other_than_minmax_clip_a_single_outlier(name: MethodName) -> None:
    assert METHODS["minmax"](count_magnitudes(_samples("outlier"))) == 30.0
    assert METHODS[name](count_magnitudes(_samples("outlier"))) < 20.0


@pytest.mark.parametrize("name", ["entropy", "mse"])
def test_entropy_and_mse_keep_the_range_of_uniform_values(name: MethodName) -> None:
    assert METHODS[name](count_magnitudes(_samples("uniform"))) > 0.95


def test_entropy_matches_an_exhaustive_search_over_2048_bins() -> None:
    """Compare with TensorRT's algorithm written bin by bin."""
    values = _samples("heavy")
    largest = float(np.abs(values).max())
    counts, edges = np.histogram(np.abs(values).astype(np.float64), 2048, (0, largest))
    counts = counts.astype(np.float64)
    counts[0] = counts[1]
    divergences = {float(edges[end]): _divergence(counts, end) for end in range(128, 2049, 16)}
    limit = entropy(count_magnitudes(values))
    assert limit in divergences
    assert divergences[limit] <= min(divergences.values()) * 1.05


def _divergence(counts: NDArray[np.float64], end: int) -> float:
    clipped = counts[:end].copy()
    clipped[-1] += counts[end:].sum()
    merged = np.zeros(end)
    for level in range(128):
        part = slice(level * end // 128, (level + 1) * end // 128)
        used = counts[part] > 0
        if used.any():
            merged[part][used] = counts[part].sum() / used.sum()
    used = clipped > 0
    if (merged[used] == 0).any():
        return float("inf")
    p, q = clipped[used] / clipped.sum(), merged[used] / merged.sum()
    return float(np.sum(p * np.log(p / q)))
