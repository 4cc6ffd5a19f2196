"""Measure latencies: warm up, then time single runs until a minimum of runs and a minimum of time are reached."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from edgeact.bench.statistics import summarize
from edgeact.errors import UsageError
from edgeact.progress import OnProgress
from edgeact.records import Latency

__all__ = ["BenchPlan", "collector_disabled", "interleave", "measure_latency"]


@dataclass(frozen=True)
class BenchPlan:
    """The length of warm-up and timing.

    Warm-up ends when both `warmup_runs` and `warmup_s` are reached, timing when both `min_runs` and `min_s` are.
    `max_s` ends each of them early, after the current run; at least one run is timed.
    """

    warmup_runs: int = 5
    warmup_s: float = 1.0
    min_runs: int = 100
    min_s: float = 3.0
    max_s: float = 120.0

    def __post_init__(self) -> None:
        if self.warmup_runs < 0 or self.min_runs < 1:
            raise UsageError(
                f"bench plan: expected warmup_runs >= 0 and min_runs >= 1, got {self.warmup_runs}, {self.min_runs}"
            )
        seconds = (self.warmup_s, self.min_s, self.max_s)
        if not all(math.isfinite(value) and value >= 0 for value in seconds):
            raise UsageError(f"bench plan: expected finite warmup_s, min_s and max_s of at least 0, got {seconds}")


def measure_latency(
    run: Callable[[], object],
    plan: BenchPlan | None = None,
    *,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> Latency:
    """Time `run` call by call with `time.perf_counter_ns`; no outlier is removed.

    The garbage collector runs before the timing and is disabled during it, as in `timeit`: its pauses depend on the
    heap of the surrounding program, not on the model. `on_progress(done_runs, expected_runs)` is called between timed
    runs, at most four times per second. `threads`, the setting of the session, is only recorded. Exceptions of `run`
    propagate.
    """
    plan = plan or BenchPlan()
    warmup_runs = _warm_up(run, plan)
    samples_ms: list[float] = []
    clock = time.perf_counter_ns
    with collector_disabled():
        start = reported = time.perf_counter()
        while True:
            before = clock()
            run()
            samples_ms.append((clock() - before) / 1e6)
            now = time.perf_counter()
            if _is_done(plan, len(samples_ms), now - start):
                break
            if on_progress and now - reported >= 0.25:
                reported = now
                on_progress(len(samples_ms), _expected_runs(plan, len(samples_ms), now - start))
    if on_progress:
        on_progress(len(samples_ms), len(samples_ms))
    return summarize(samples_ms, warmup_runs=warmup_runs, threads=threads)


def interleave(runs: Mapping[str, Callable[[], object]], rounds: int, *, warmup_runs: int = 3) -> dict[str, Latency]:
    """Time several functions in turns (A B C A B C ...), so that drift of the machine affects all of them equally.

    The ratio of two such medians is meaningful even on a busy machine, on which the medians alone are not.
    Raises UsageError for less than 1 round.
    """
    if rounds < 1:
        raise UsageError(f"rounds: expected at least 1, got {rounds}")
    for run in runs.values():
        for _ in range(warmup_runs):
            run()
    samples_ms: dict[str, list[float]] = {name: [] for name in runs}
    clock = time.perf_counter_ns
    with collector_disabled():
        for _ in range(rounds):
            for name, run in runs.items():
                before = clock()
                run()
                samples_ms[name].append((clock() - before) / 1e6)
    return {name: summarize(samples, warmup_runs=warmup_runs, threads=None) for name, samples in samples_ms.items()}


def _warm_up(run: Callable[[], object], plan: BenchPlan) -> int:
    start = time.perf_counter()
    done = 0
    while done < plan.warmup_runs or time.perf_counter() - start < plan.warmup_s:
        if done and time.perf_counter() - start >= plan.max_s:
            break
        run()
        done += 1
    return done


def _is_done(plan: BenchPlan, runs: int, elapsed_s: float) -> bool:
    return elapsed_s >= plan.max_s or (runs >= plan.min_runs and elapsed_s >= plan.min_s)


def _expected_runs(plan: BenchPlan, runs: int, elapsed_s: float) -> int:
    per_second = runs / elapsed_s
    wanted = max(float(plan.min_runs), plan.min_s * per_second)
    return max(runs, math.ceil(min(wanted, plan.max_s * per_second)))


@contextlib.contextmanager
def collector_disabled() -> Iterator[None]:
    """Collect garbage once, then disable the collector until the context ends.

    Does nothing if the collector is disabled already: a series of timings in one context collects once, which takes
    0.3 s each time with the libraries of an export in memory.
    """
    if not gc.isenabled():
        yield
        return
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
