"""Measure latencies, record them, and compare them with a baseline."""

from edgeact.bench.bench import BenchOptions, bench_bundle
from edgeact.bench.conditions import notable_changes, take_sensors
from edgeact.bench.gate import Comparison, check_comparable, compare, junit_xml, parse_limit, read_record
from edgeact.bench.protocol import BenchPlan, collector_disabled, interleave, measure_latency
from edgeact.bench.statistics import P90_MIN_RUNS, P99_MIN_RUNS, median_interval, median_ratio, summarize

__all__ = [
    "P90_MIN_RUNS",
    "P99_MIN_RUNS",
    "BenchOptions",
    "BenchPlan",
    "Comparison",
    "bench_bundle",
    "check_comparable",
    "collector_disabled",
    "compare",
    "interleave",
    "junit_xml",
    "measure_latency",
    "median_interval",
    "median_ratio",
    "notable_changes",
    "parse_limit",
    "read_record",
    "summarize",
    "take_sensors",
]
