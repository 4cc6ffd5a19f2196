"""`edgeact bench`: time a bundle here, and fail when it became slower than its baseline allows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from edgeact.cli.output import JsonOption, emit_json, note, runtime_notes, show
from edgeact.cli.steps import steps
from edgeact.errors import BaselineError, UsageError
from edgeact.storage import write_text

if TYPE_CHECKING:
    from edgeact.bench import BenchOptions, Comparison
    from edgeact.records import Latency, LatencyRecord

__all__ = ["command"]


def command(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by 'edgeact export'.")],
    artifact: Annotated[str | None, typer.Option(help="Which artifact; default: the bundle's choice.")] = None,
    backend: Annotated[str | None, typer.Option(help="Which backend; default: the bundle's choice.")] = None,
    device: Annotated[str | None, typer.Option(help="One of the backend's devices; default: its best.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; default: the library's own choice.")] = None,
    runs: Annotated[int | None, typer.Option(help="Timed runs; default: 100 or more in 3 s. p99 needs 662.")] = None,
    trust_engines: Annotated[bool, typer.Option("--trust-engines", help="Open engines, which are code.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the record here; it can be a baseline later.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="A record of this machine to compare with.")] = None,
    max_regression: Annotated[str, typer.Option(help="By how much the median may be slower: '10%' or '0.1'.")] = "10%",
    min_delta_ms: Annotated[float, typer.Option(help="Smaller differences of the medians always pass.")] = 0.05,
    junit: Annotated[Path | None, typer.Option(help="Write the comparison as JUnit XML here.")] = None,
    json: JsonOption = False,
) -> None:
    """Time a bundle; with --baseline end with exit code 9 where it is proven slower, 11 where it cannot be compared."""
    from edgeact.bench import BenchOptions, BenchPlan, compare, parse_limit, read_record

    gate = functools.partial(compare, max_regression=parse_limit(max_regression), min_delta_ms=min_delta_ms)
    if junit and not baseline:
        raise UsageError("--junit reports a comparison: give a --baseline, too")
    if runs is not None and runs < 1:
        raise UsageError(f"--runs: expected 1 or more, got {runs}")
    plan = BenchPlan() if runs is None else BenchPlan(min_runs=runs, min_s=0.0)
    options = BenchOptions(artifact, backend, device, threads, trust_engines, plan)
    before = read_record(baseline) if baseline else None
    if before:
        _refuse_early(before, bundle, options, junit)
    record = _measure(bundle, options)
    comparison = None
    if before:
        record, comparison = _judge(functools.partial(gate, before), record, lambda: _measure(bundle, options), junit)
    if out:
        write_text(out, record.model_dump_json(indent=1) + "\n")
    if json:
        told = comparison.model_dump(mode="json") if comparison else None
        emit_json({"record": record.model_dump(mode="json"), "comparison": told})
    else:
        _show(record, comparison)
    if comparison:
        if comparison.inconclusive:
            note(f"warning: {comparison.inconclusive}")
        comparison.raise_on_regression()


def _measure(bundle: Path, options: BenchOptions) -> LatencyRecord:
    from edgeact.bench import bench_bundle

    with steps() as shown, runtime_notes():
        return bench_bundle(bundle, options, shown.advance)


def _refuse_early(before: LatencyRecord, bundle: Path, options: BenchOptions, junit: Path | None) -> None:
    """Do not measure for minutes what cannot be compared in the end."""
    from edgeact.bench import check_comparable, junit_xml
    from edgeact.bundle import open_bundle

    try:
        check_comparable(before, open_bundle(bundle), options)
    except BaselineError as error:
        if junit:
            write_text(junit, junit_xml(before, error))
        raise


def _judge(
    gate: Callable[[LatencyRecord], Comparison],
    record: LatencyRecord,
    measure: Callable[[], LatencyRecord],
    junit: Path | None,
) -> tuple[LatencyRecord, Comparison]:
    """Compare; a regression must show in a second measurement, too, which then is the one that counts."""
    from edgeact.bench import junit_xml

    try:
        comparison = gate(record)
        if comparison.outcome == "regression":
            note(f"{comparison.summary}; measuring once more to be sure")
            record = measure()
            comparison = gate(record)
    except BaselineError as error:
        if junit:
            write_text(junit, junit_xml(record, error))
        raise
    if junit:
        write_text(junit, junit_xml(record, comparison))
    return record, comparison


def _show(record: LatencyRecord, comparison: Comparison | None) -> None:
    from edgeact.bench import P90_MIN_RUNS, P99_MIN_RUNS

    latency = record.latency
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        title=escape(f"{record.model} / {record.artifact} ({record.precision}) on {record.backend} {record.device}"),
        caption=escape(
            f"{record.machine.board or record.machine.processor}, threads: {latency.threads or 'the library chose'}, "
            f"{record.input_source} input, {latency.warmup_runs} warm-up runs, no outlier removed; "
            f"p90 needs {P90_MIN_RUNS} runs, p99 {P99_MIN_RUNS}"
        ),
    )
    for head in ("ms per clip", "p50", "95 % of p50", "p90", "p99", "slowest", "runs"):
        table.add_column(head, justify="left" if head == "ms per clip" else "right", no_wrap=True)
    table.add_row("session", *_cells(latency))
    for name, stage in record.stages.items():
        table.add_row(f"predict {name}", *_cells(stage))
    show(table)
    for text in (*record.notes, *(comparison.notes if comparison else ())):
        note(text)
    if comparison:
        show(escape(comparison.summary))


def _cells(latency: Latency) -> tuple[str, ...]:
    interval = latency.p50_interval
    p90, p99 = ("-" if value is None else f"{value:.3f}" for value in (latency.p90_ms, latency.p99_ms))
    spread = f"{interval.low:.3f} - {interval.high:.3f}"
    return f"{latency.p50_ms:.3f}", spread, p90, p99, f"{latency.max_ms:.3f}", str(latency.runs)
