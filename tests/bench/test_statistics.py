from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.bench import P90_MIN_RUNS, P99_MIN_RUNS, median_interval, median_ratio, summarize
from tests.bench.making import noisy_latencies_ms
from tests.messages import names

latencies = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=300)


@given(latencies)
def test_summarize_keeps_all_samples_and_orders_its_statistics(samples: list[float]) -> None:
    latency = summarize(samples, warmup_runs=0, threads=None)
    assert latency.samples_ms == tuple(samples)
    assert latency.min_ms == min(samples)
    assert latency.max_ms == max(samples)
    assert latency.min_ms <= latency.mean_ms <= latency.max_ms
    ordered = (latency.min_ms, latency.p50_interval.low, latency.p50_ms, latency.p50_interval.high, latency.max_ms)
    assert list(ordered) == sorted(ordered)


@given(latencies, st.randoms())
def test_summarize_percentiles_are_independent_of_the_order(samples: list[float], random: object) -> None:
    before = summarize(samples, warmup_runs=0, threads=None)
    after = summarize(sorted(samples), warmup_runs=0, threads=None)
    assert before.model_copy(update={"samples_ms": (), "mean_ms": 0}) == after.model_copy(
        update={"samples_ms": (), "mean_ms": 0}
    )


@pytest.mark.parametrize(
    ("runs", "has_p90", "has_p99"),
    [(63, False, False), (64, True, False), (661, True, False), (662, True, True)],
)
def test_summarize_omits_percentiles_of_too_few_runs(runs: int, has_p90: bool, has_p99: bool) -> None:
    latency = summarize([float(value) for value in range(1, runs + 1)], warmup_runs=0, threads=None)
    assert (latency.p90_ms is not None, latency.p99_ms is not None) == (has_p90, has_p99)


@pytest.mark.parametrize(("fraction", "min_runs"), [(0.90, P90_MIN_RUNS), (0.99, P99_MIN_RUNS)])
def test_min_runs_make_the_second_slowest_run_a_bound_of_the_percentile(fraction: float, min_runs: int) -> None:
    def chance_of_at_most_one_above(runs: int) -> float:
        return fraction**runs + comb(runs, 1) * (1 - fraction) * fraction ** (runs - 1)

    assert chance_of_at_most_one_above(min_runs) <= 0.01 < chance_of_at_most_one_above(min_runs - 1)


def test_summarize_percentiles_are_observed_values() -> None:
    latency = summarize([float(value) for value in range(1, 1001)], warmup_runs=0, threads=4)
    assert (latency.p50_ms, latency.p90_ms, latency.p99_ms) == (500, 900, 990)
    assert latency.threads == 4


def test_summarize_refuses_no_samples() -> None:
    with pytest.raises(ValueError, check=names("at least one latency sample")):
        summarize([], warmup_runs=0, threads=None)


# ranks of the classical table of sign-test intervals (n, lower rank counted from 1)
@pytest.mark.parametrize(("count", "rank"), [(5, 1), (6, 1), (9, 2), (10, 2), (20, 6), (50, 18), (100, 40)])
def test_median_interval_has_the_ranks_of_the_sign_test(count: int, rank: int) -> None:
    interval = median_interval([float(value) for value in range(1, count + 1)])
    assert (interval.low, interval.high) == (rank, count - rank + 1)


def test_median_interval_approximation_continues_the_exact_ranks() -> None:
    exact = median_interval([float(value) for value in range(1000)])
    approximate = median_interval([float(value) for value in range(1002)])
    assert 0 <= approximate.low - exact.low <= 2
    assert 0 <= approximate.high - exact.high <= 2


@pytest.mark.parametrize("runs", [15, 64])
def test_median_interval_covers_the_median_95_percent_of_the_time(runs: int) -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        interval = median_interval(generator.exponential(size=runs).tolist())
        hits += interval.low <= np.log(2) <= interval.high
    assert 0.94 <= hits / 2000 <= 0.985


@pytest.mark.slow
def test_median_ratio_covers_the_true_ratio_of_correlated_runs() -> None:
    low_misses = high_misses = 0
    for seed in range(100):
        was, now = (noisy_latencies_ms(10.0 * k, 200, 2 * seed + i) for i, k in enumerate((1.0, 1.2)))
        bounds = median_ratio(was, now)
        low_misses += bounds.low > 1.2
        high_misses += bounds.high < 1.2
    assert low_misses <= 15  # 5 expected; 16 or more has a chance below 1 in 30 000
    assert high_misses <= 15


@pytest.mark.slow
@settings(max_examples=25)
@given(st.floats(0.01, 100), st.floats(0.2, 5))
def test_median_ratio_is_independent_of_the_unit(unit: float, ratio: float) -> None:
    samples = noisy_latencies_ms(10.0, 30, seed=1)
    first = median_ratio(samples, [ratio * value for value in samples])
    second = median_ratio([unit * value for value in samples], [unit * ratio * value for value in samples])
    assert second.low == pytest.approx(first.low)
    assert second.high == pytest.approx(first.high)


def test_median_ratio_is_deterministic() -> None:
    was, now = noisy_latencies_ms(10, 80, 1), noisy_latencies_ms(11, 90, 2)
    assert median_ratio(was, now) == median_ratio(was, now)
