from __future__ import annotations

import gc
import math
import time

import pytest

from edgeact.bench import BenchPlan, collector_disabled, interleave, measure_latency
from edgeact.errors import UsageError
from tests.messages import names

pytestmark = pytest.mark.timing

QUICK = BenchPlan(warmup_runs=2, warmup_s=0.0, min_runs=7, min_s=0.0)


class Work:
    """A function that counts its calls and takes a given time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls = 0
        self.seconds = seconds

    def __call__(self) -> None:
        self.calls += 1
        time.sleep(self.seconds)


def test_measure_latency_keeps_all_timed_runs_and_no_warmup() -> None:
    work = Work()
    latency = measure_latency(work, QUICK, threads=3)
    assert work.calls == 9
    assert (latency.runs, latency.warmup_runs, latency.threads) == (7, 2, 3)
    assert len(latency.samples_ms) == 7


def test_measure_latency_is_in_milliseconds() -> None:
    latency = measure_latency(Work(0.02), QUICK)
    assert 20 <= latency.min_ms < 60


def test_measure_latency_keeps_a_slow_run() -> None:
    pauses = iter([0.0] * 5 + [0.05] + [0.0] * 20)
    latency = measure_latency(lambda: time.sleep(next(pauses)), QUICK)
    assert latency.max_ms >= 50
    assert latency.p50_ms < 25


def test_measure_latency_continues_until_runs_and_seconds_are_reached() -> None:
    latency = measure_latency(Work(0.005), BenchPlan(warmup_runs=0, warmup_s=0.0, min_runs=3, min_s=0.1))
    assert latency.runs > 3
    assert sum(latency.samples_ms) >= 90


def test_measure_latency_ends_at_max_s_after_at_least_one_run() -> None:
    work = Work(0.03)
    latency = measure_latency(work, BenchPlan(warmup_runs=50, warmup_s=9.0, min_runs=50, min_s=9.0, max_s=0.01))
    assert (latency.warmup_runs, latency.runs, work.calls) == (1, 1, 2)


def test_measure_latency_warms_up_for_warmup_s() -> None:
    latency = measure_latency(Work(0.01), BenchPlan(warmup_runs=0, warmup_s=0.05, min_runs=1, min_s=0.0))
    assert 2 <= latency.warmup_runs <= 5


def test_measure_latency_disables_the_garbage_collector_while_timing() -> None:
    enabled: list[bool] = []
    measure_latency(lambda: enabled.append(gc.isenabled()), QUICK)
    assert enabled == [True] * 2 + [False] * 7
    assert gc.isenabled()


def test_collector_disabled_collects_once_for_several_timings() -> None:
    collections: list[str] = []

    def count(phase: str, _info: dict[str, int]) -> None:
        collections.append(phase)

    gc.callbacks.append(count)
    try:
        with collector_disabled():
            measure_latency(lambda: None, QUICK)
            interleave({"a": lambda: None}, 2)
            assert not gc.isenabled()
    finally:
        gc.callbacks.remove(count)
    assert collections == ["start", "stop"]
    assert gc.isenabled()


def test_measure_latency_enables_the_garbage_collector_after_an_error() -> None:
    def fail() -> None:
        raise RuntimeError("the session broke")

    with pytest.raises(RuntimeError, check=names("the session broke")):
        measure_latency(fail, BenchPlan(warmup_runs=0, warmup_s=0.0))
    assert gc.isenabled()


def test_measure_latency_reports_progress_rarely_and_completely() -> None:
    calls: list[tuple[int, int]] = []
    plan = BenchPlan(warmup_runs=0, warmup_s=0.0, min_runs=10, min_s=0.6)
    latency = measure_latency(Work(0.002), plan, on_progress=lambda done, wanted: calls.append((done, wanted)))
    assert 2 <= len(calls) <= 4
    assert all(done <= wanted for done, wanted in calls)
    assert calls[-1] == (latency.runs, latency.runs)


def test_interleave_runs_in_turns() -> None:
    calls: list[str] = []
    latencies = interleave({name: lambda name=name: calls.append(name) for name in "abc"}, 4, warmup_runs=1)  # type: ignore[misc]
    assert "".join(calls) == "abc" + "abc" * 4
    assert {name: latency.runs for name, latency in latencies.items()} == {"a": 4, "b": 4, "c": 4}
    assert gc.isenabled()


@pytest.mark.parametrize(
    "fields",
    [{"min_runs": 0}, {"warmup_runs": -1}, {"max_s": math.nan}, {"min_s": math.inf}, {"warmup_s": -0.1}],
)
def test_bench_plan_refuses_values_out_of_range(fields: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        BenchPlan(**fields)  # type: ignore[arg-type]


def test_interleave_refuses_zero_rounds() -> None:
    with pytest.raises(UsageError):
        interleave({"a": Work()}, 0)
