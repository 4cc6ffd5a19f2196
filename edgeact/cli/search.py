"""`edgeact search`: find the fastest compressed form of a model that keeps its accuracy."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from edgeact.cli.build_options import BuildOptions
from edgeact.cli.data_options import DataOptions, Videos
from edgeact.cli.loading import ClipOptions, ClipSize, ModelOptions, load_request
from edgeact.cli.option_groups import with_option_groups
from edgeact.cli.output import JsonOption, emit_json, note, show
from edgeact.cli.panels import CLIP, OUTPUT, SEARCH, TRAINING
from edgeact.cli.search_view import front_table, search_callbacks
from edgeact.cli.session_options import ExecutorOption
from edgeact.cli.steps import STARTING, steps
from edgeact.devices import load_profile, probe_machine
from edgeact.errors import BudgetError, UsageError

if TYPE_CHECKING:
    from edgeact.records import SearchRecord

__all__ = ["command"]


@with_option_groups
def command(
    *,
    model: ModelOptions,
    clip: ClipOptions,
    data: DataOptions,
    build: BuildOptions,
    max_ms: Annotated[
        float | None,
        typer.Option("--max-ms", help="Latency budget of one clip, ms; default: none.", rich_help_panel=SEARCH),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(
            min=1,
            help="Finished trials in total, those of earlier calls included.",
            rich_help_panel=SEARCH,
        ),
    ] = 30,
    clip_frames: Annotated[
        str | None,
        typer.Option(
            metavar="N,N...",
            help="Clip lengths in frames, e.g. 8,4: the model's own first, then those to try.",
            rich_help_panel=CLIP,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N,N...",
            help="Heights and widths of the input in pixels, e.g. 112,80: the model's own first, then those to try.",
            rich_help_panel=CLIP,
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option(min=0, help="Fine-tuning epochs of every pruned model; 0: none.", rich_help_panel=TRAINING)
    ] = 2,
    videos: Videos = 480,
    executor: ExecutorOption = "local",
    study: Annotated[
        Path | None,
        typer.Option(
            help="Database of the trials; default: MODEL-TARGET.study.db beside the record.", rich_help_panel=OUTPUT
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Record to write (JSON); default: MODEL-TARGET.search.json.", rich_help_panel=OUTPUT
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Search pruning by stage, precision by stage and clip size for the fastest model within an accuracy drop.

    The same command resumes an interrupted search; several processes may work on one study at once.
    """
    load_profile(build.target)  # refuses a mistyped name before the slow imports
    with steps() as shown:
        shown.begin(STARTING)
        from edgeact.executors import open_executors
        from edgeact.export.build import DataPlan, Recipe
        from edgeact.export.models.loading import DEFAULT_MODEL
        from edgeact.export.search import Budgets, SearchRequest, search

        frames, sizes = _numbers("--clip-frames", clip_frames), _numbers("--size", size)
        first = ClipSize(clip_frames=frames[0] if frames else None, size=sizes[0] if sizes else None)
        name = f"{(model.model or DEFAULT_MODEL).rpartition(':')[2]}-{build.target}"
        record_file = out or Path(f"{name}.search.json")
        request = SearchRequest(
            recipe=Recipe(
                target=build.target,
                source=model.model,
                load=load_request(model, first, clip),
                data=DataPlan(data.data, data.clips, videos, data.accept_poor_calibration, data.seed),
                threads=build.threads or probe_machine().cores,
            ),
            finetune_epochs=epochs,
            study=study or record_file.with_name(f"{name}.study.db"),
            out=record_file,
            trials=trials,
            budgets=Budgets(max_ms, build.max_drop),
            clip_frames=frames[1:] if frames else None,
            sizes=sizes[1:] if sizes else None,
        )
    with open_executors(executor, timing=True) as executors, search_callbacks() as callbacks:
        record = search(request, executors, callbacks)
    _finish(record, request.out, json)


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    """Parse the positive whole numbers of `8,4`; return an empty tuple for None."""
    parts = text.split(",") if text is not None else []
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"expected {option} with numbers above 0, the model's own first, e.g. 8,4, got '{text}'")
    return tuple(int(part) for part in parts)


def _finish(record: SearchRecord, out: Path, json: bool) -> None:
    """Show the Pareto front and the commands that export its trials; raises BudgetError if none keeps the budgets."""
    if json:
        emit_json(record)
    else:
        show(front_table(record))
        for number in record.front:
            mark = "  # the fastest within the budgets" if number == record.chosen else ""
            show(f"edgeact export --trial {shlex.quote(f'{out}:{number}')}{mark}")
    for text in record.notes:
        note(escape(text))
    note(f"wrote {out}; for a page: edgeact report {shlex.quote(str(out))}")
    if record.chosen is None:
        from edgeact.export.search import shortfall

        raise BudgetError(
            f"none of {len(record.trials)} trials keeps the budgets: "
            f"{shortfall(record.on_front, record.max_ms, record.max_drop_points)}; '{out}' holds all trials, "
            "and the same command with a larger --trials continues"
        )
