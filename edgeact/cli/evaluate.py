"""`edgeact evaluate`: accuracy of a bundle on labelled videos, of clips and of videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgeact.cli.output import JsonOption, emit_json, note, runtime_notes, show
from edgeact.cli.steps import STARTING, steps
from edgeact.storage import write_text

__all__ = ["command"]


def command(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by 'edgeact export'.")],
    data: Annotated[str, typer.Option("--data", help="Data set, e.g. 'folder:/clips'; see docs/data.md.")],
    split: Annotated[str | None, typer.Option(help="Default: test, else val, else train.")] = None,
    videos: Annotated[int | None, typer.Option(min=1, help="At most so many, spread over classes.")] = None,
    artifact: Annotated[str | None, typer.Option(help="Which artifact; default: the bundle's choice.")] = None,
    backend: Annotated[str | None, typer.Option(help="Which backend; default: the bundle's choice.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the record here (JSON).")] = None,
    executor: Annotated[
        str, typer.Option(help="local, or dask://HOST:PORT, with the bundle at the same path.")
    ] = "local",
    trust_engines: Annotated[bool, typer.Option("--trust-engines", help="Open engines, which are code.")] = False,
    json: JsonOption = False,
) -> None:
    """Measure clip-level and video-level accuracy with 95 % intervals."""
    with steps() as shown, runtime_notes():
        shown.begin(STARTING)
        from edgeact.calibration.evaluation import EvaluationPlan, evaluate_bundle
        from edgeact.executors import open_executors

        plan = EvaluationPlan(data, split, videos, artifact, backend, threads, trust_engines)
        with open_executors(executor) as executors:
            record = evaluate_bundle(bundle, plan, shown.advance, executors)
    if out:
        write_text(out, record.model_dump_json(indent=1) + "\n")
    if json:
        emit_json(record)
        return
    table = Table(title=f"{record.model} / {record.artifact} on {record.backend} {record.device}")
    for head in ("level", "data", "count", "top-1", "95 %", "top-5"):
        table.add_column(head, justify="left" if head in ("level", "data") else "right")
    for accuracy in record.accuracy:
        interval, top5 = accuracy.top1_interval, accuracy.top5
        table.add_row(
            accuracy.level,
            f"{accuracy.dataset} {accuracy.split}",
            str(accuracy.count),
            f"{accuracy.top1:.1%}",
            f"{interval.low:.1%} to {interval.high:.1%}",
            "-" if top5 is None else f"{top5:.1%}",
        )
    show(table)
    for reason, count in record.accuracy[0].skipped.items():
        note(f"{count} videos left out: {reason}")
    for oddity, count in record.accuracy[0].handled.items():
        note(f"{count} videos used all the same: {oddity}")
