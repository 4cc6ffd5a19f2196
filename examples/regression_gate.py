"""Fail a CI job if a bundle became slower on this machine: exit code 9 if it did, 11 if nothing can be compared.

    python examples/regression_gate.py colors.edgeact baseline.json 10%

The first run writes the baseline; keep that file with the machine that gates.
"""

import sys
from pathlib import Path

import edgeact
from edgeact.bench import compare, parse_limit, read_record
from edgeact.errors import EdgeactError

MIN_DELTA_MS = 0.01  # a smaller difference always passes


def main(bundle: str, baseline: str, max_regression: str = "10%") -> int:
    record = edgeact.benchmark(bundle)
    if not Path(baseline).exists():
        Path(baseline).write_text(record.model_dump_json(indent=1))
        print(f"wrote {baseline}: p50 {record.latency.p50_ms:.3f} ms of {record.latency.runs} runs")
        return 0
    try:
        limit = parse_limit(max_regression)
        comparison = compare(read_record(baseline), record, max_regression=limit, min_delta_ms=MIN_DELTA_MS)
        print(comparison.summary)
        comparison.raise_on_regression()
    except EdgeactError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
