"""Time subjects in turns, and state their ratio."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeact.bench import interleave, median_ratio
from edgeact.records import Latency
from tests.benchmarks.records import BenchRow
from tests.benchmarks.subjects import Array, Subject

__all__ = ["speedup", "time_in_turns"]


def time_in_turns(subjects: Sequence[Subject], clip: Array, rounds: int) -> dict[str, Latency]:
    """Time all subjects in turns; each has an untimed run before its timed run.

    Otherwise its latency would include cold caches and the threads of the previous library, which spin for a while.
    """
    runs: dict[str, Callable[[], object]] = {}
    for subject in subjects:
        runs[f"{subject.name}, settling"] = lambda run=subject.run: run(clip)  # type: ignore[misc]
        runs[subject.name] = lambda run=subject.run: run(clip)  # type: ignore[misc]
    latencies = interleave(runs, rounds)
    return {subject.name: latencies[subject.name] for subject in subjects}


def speedup(name: str, ours_ms: Sequence[float], theirs_ms: Sequence[float], how: str) -> BenchRow:
    """Return the ratio of the medians, theirs by ours, with the bounds of a block bootstrap."""
    ours, theirs = sorted(ours_ms)[len(ours_ms) // 2], sorted(theirs_ms)[len(theirs_ms) // 2]
    return BenchRow(
        name=name,
        value=theirs / ours,
        unit="x",
        comparison=">=",
        interval=median_ratio(ours_ms, theirs_ms),
        how=f"{ours:.2f} ms against {theirs:.2f} ms, medians of {len(ours_ms)} runs in turns; {how}",
    )
