"""Latency: how it is taken, recorded, and compared with a baseline."""

from edgeact.bench.bench import BenchOptions, bench_bundle
from edgeact.bench.conditions import notable_changes, take_sensors
from edgeact.bench.gate import Comparison, compare, junit_xml, parse_limit, read_record, refuse_early
from edgeact.bench.protocol import BenchPlan, interleave, measure_latency
from edgeact.bench.statistics import P90_MIN_RUNS, P99_MIN_RUNS, median_interval, median_ratio, summarize

__all__ = [
    "P90_MIN_RUNS",
    "P99_MIN_RUNS",
    "BenchOptions",
    "BenchPlan",
    "Comparison",
    "bench_bundle",
    "compare",
    "interleave",
    "junit_xml",
    "measure_latency",
    "median_interval",
    "median_ratio",
    "notable_changes",
    "parse_limit",
    "read_record",
    "refuse_early",
    "summarize",
    "take_sensors",
]
