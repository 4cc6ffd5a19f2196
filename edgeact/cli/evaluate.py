"""`edgeact evaluate`: measure the accuracy of a bundle on labeled videos, of clips and of videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgeact.cli.data_options import DATA_HELP
from edgeact.cli.option_groups import with_option_groups
from edgeact.cli.output import JsonOption, emit_json, note, runtime_notes, show
from edgeact.cli.panels import DATA, OUTPUT
from edgeact.cli.session_options import BundleArgument, BundleOptions, CheckChoice, CheckOption, ExecutorOption
from edgeact.cli.steps import STARTING, steps
from edgeact.storage import write_text

__all__ = ["command"]


@with_option_groups
def command(
    *,
    bundle: BundleArgument,
    data: Annotated[str, typer.Option("--data", help=DATA_HELP, rich_help_panel=DATA)],
    options: BundleOptions,
    check: CheckOption = CheckChoice.auto,
    split: Annotated[
        str | None,
        typer.Option(help="Split of the data set; default: test, else val, else train.", rich_help_panel=DATA),
    ] = None,
    videos: Annotated[
        int | None,
        typer.Option(min=1, help="Number of videos, spread over the classes; default: all.", rich_help_panel=DATA),
    ] = None,
    executor: ExecutorOption = "local",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write the record to (JSON).", rich_help_panel=OUTPUT)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure clip-level and video-level accuracy with 95 % confidence intervals."""
    with steps() as shown, runtime_notes():
        shown.begin(STARTING)
        from edgeact.calibration.evaluation import EvaluationPlan, evaluate_bundle
        from edgeact.executors import open_executors

        plan = EvaluationPlan(
            data,
            split=split,
            videos=videos,
            artifact=options.artifact,
            backend=options.backend,
            threads=options.threads,
            trust_engines=options.trust_engines,
            check=check.value,
        )
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
    for peculiarity, count in record.accuracy[0].handled.items():
        note(f"{count} videos used in spite of: {peculiarity}")
