"""`edgeact bench`: time a bundle on this machine, and fail if it is slower than its baseline allows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from edgeact.cli.option_groups import with_option_groups
from edgeact.cli.output import JsonOption, emit_json, note, runtime_notes, show
from edgeact.cli.panels import MEASUREMENT, OUTPUT
from edgeact.cli.session_options import BundleArgument, BundleOptions, CheckChoice, CheckOption, DeviceOption
from edgeact.cli.steps import steps
from edgeact.errors import BaselineError, UsageError
from edgeact.storage import write_text

if TYPE_CHECKING:
    from edgeact.bench import BenchOptions, Comparison
    from edgeact.records import Latency, LatencyRecord

__all__ = ["command"]


@with_option_groups
def command(
    *,
    bundle: BundleArgument,
    options: BundleOptions,
    device: DeviceOption = None,
    check: CheckOption = CheckChoice.auto,
    runs: Annotated[
        int | None,
        typer.Option(
            help="Timed runs; default: 100 or more within 3 s. The p99 latency needs 662.", rich_help_panel=MEASUREMENT
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="Record of this machine to compare with, as --out writes it.", rich_help_panel=MEASUREMENT),
    ] = None,
    max_regression: Annotated[
        str,
        typer.Option(help="Accepted slowdown of the median: '10%' or '0.1'.", rich_help_panel=MEASUREMENT),
    ] = "10%",
    min_delta_ms: Annotated[
        float,
        typer.Option(help="Difference of the medians that always passes, ms.", rich_help_panel=MEASUREMENT),
    ] = 0.05,
    junit: Annotated[
        Path | None, typer.Option(help="File to write the comparison to (JUnit XML).", rich_help_panel=OUTPUT)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File to write the record to (JSON); a later --baseline.", rich_help_panel=OUTPUT
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Time a bundle. With --baseline the exit code is 9 if a slowdown is proven, and 11 if nothing can be compared."""
    from edgeact.bench import BenchOptions, BenchPlan, compare, parse_limit, read_record

    gate = functools.partial(compare, max_regression=parse_limit(max_regression), min_delta_ms=min_delta_ms)
    if junit and not baseline:
        raise UsageError("--junit reports a comparison: give --baseline FILE, too")
    if runs is not None and runs < 1:
        raise UsageError(f"--runs: expected 1 or more, got {runs}")
    plan = BenchPlan() if runs is None else BenchPlan(min_runs=runs, min_s=0.0)
    timing = BenchOptions(
        artifact=options.artifact,
        backend=options.backend,
        device=device,
        threads=options.threads,
        trust_engines=options.trust_engines,
        plan=plan,
        check=check.value,
    )
    before = read_record(baseline) if baseline else None
    if before:
        _refuse_early(before, bundle, timing, junit)
    record = _measure(bundle, timing)
    comparison = None
    if before:
        record, comparison = _judge(functools.partial(gate, before), record, lambda: _measure(bundle, timing), junit)
    if out:
        write_text(out, record.model_dump_json(indent=1) + "\n")
    if json:
        compared = comparison.model_dump(mode="json") if comparison else None
        emit_json({"record": record.model_dump(mode="json"), "comparison": compared})
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
    """Raise BaselineError before measuring for minutes, if the result could not be compared with `before`."""
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
    """Compare `record`; measure again to confirm a regression, and then return the second measurement."""
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
