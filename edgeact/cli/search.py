"""`edgeact search`: the fastest of a model's pruned, quantized, shortened forms that keeps its accuracy."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from edgeact.cli.loading import ChannelOrder, Fps, Labels, Mean, ModelOptions, Resize, Std, Weights, Width
from edgeact.cli.output import JsonOption, emit_json, note, show
from edgeact.cli.steps import STARTING, steps
from edgeact.devices import load_profile, probe_machine
from edgeact.errors import BudgetError, UsageError
from edgeact.progress import Callbacks
from edgeact.report.formatting import drop_text, ms, percent, stages_text

if TYPE_CHECKING:
    from edgeact.executors import Executors
    from edgeact.export.search import SearchRequest
    from edgeact.records import SearchRecord, SearchTrial

__all__ = ["command"]


def command(
    model: Annotated[
        str | None, typer.Argument(help="Registry model or package.module:factory; default: the shipped model.")
    ] = None,
    target: Annotated[str, typer.Option(help="Board, or jetson, desktop, cpu; see 'edgeact targets'.")] = "cpu",
    data: Annotated[
        str | None, typer.Option("--data", help="Data with the model's labels; default: stick-actions, rendered here.")
    ] = None,
    max_ms: Annotated[float | None, typer.Option("--max-ms", help="Latency of one clip that is allowed.")] = None,
    max_drop: Annotated[float, typer.Option(min=0.0, help="Points of top-1 that may be lost.")] = 1.0,
    trials: Annotated[int, typer.Option(min=1, help="Finished trials in all, those of earlier calls too.")] = 30,
    executor: Annotated[str, typer.Option(help="local, or dask://HOST:PORT.")] = "local",
    study: Annotated[Path | None, typer.Option(help="Default: MODEL-TARGET.study.db beside the record.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: MODEL-TARGET.search.json here.")] = None,
    clip_frames: Annotated[
        str | None, typer.Option(help="Frames in a clip, e.g. 8,4: the model's own, then others to try.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Height and width of the input, e.g. 112,80: the model's own, then others.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=0, help="Fine-tuning epochs of every pruned model; 0: none.")] = 2,
    weights: Weights = None,
    labels: Labels = None,
    width: Width = None,
    fps: Fps = None,
    resize: Resize = None,
    mean: Mean = None,
    std: Std = None,
    channel_order: ChannelOrder = None,
    clips: Annotated[int, typer.Option(min=1, help="Clips to calibrate on.")] = 64,
    videos: Annotated[int, typer.Option(min=1, help="Videos to compare accuracy on.")] = 480,
    accept_poor_calibration: Annotated[
        bool, typer.Option("--accept-poor-calibration", help="Go on with too few clips.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of sampling, training and what is tried.")] = 0,
    json: JsonOption = False,
) -> None:
    """Search pruning by stage, precision by stage and clip size for what is fast within a loss of accuracy.

    Interrupted or killed, the same command goes on; several may run at once on one study.
    """
    load_profile(target)  # a name mistyped is told before the slow imports
    with steps() as shown:
        shown.begin(STARTING)
        from edgeact.executors import open_executors
        from edgeact.export.build.data import DataPlan
        from edgeact.export.search import Budgets, SearchJob, SearchRequest

        frames, sizes = _numbers("--clip-frames", clip_frames), _numbers("--size", size)
        first = (frames[0] if frames else None, sizes[0] if sizes else None)
        loading = ModelOptions(weights, labels, width, *first, fps, resize, mean, std, channel_order)
        name = (model or "msf-r3d-fsam").rpartition(":")[2]
        record_file = out or Path(f"{name}-{target}.search.json")
        request = SearchRequest(
            job=SearchJob(
                target=target,
                source=model,
                load=loading.request(),
                data=DataPlan(data, clips, videos, accept_poor_calibration, seed),
                finetune_epochs=epochs,
                threads=threads or probe_machine().cores,
            ),
            study=study or record_file.with_name(f"{name}-{target}.study.db"),
            out=record_file,
            trials=trials,
            budgets=Budgets(max_ms, max_drop),
            clip_frames=frames[1:] if frames else None,
            sizes=sizes[1:] if sizes else None,
        )
    with open_executors(executor, timing=True) as executors:
        record = _run(request, executors)
    _finish(record, request.out, json)


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    """Numbers above 0 of `8,4`; none where nothing is given."""
    parts = text.split(",") if text is not None else []
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"expected {option} with numbers above 0, the model's own first, e.g. 8,4, got '{text}'")
    return tuple(int(part) for part in parts)


def _run(request: SearchRequest, executors: Executors) -> SearchRecord:
    from edgeact.export.search import TrialFinished, search

    def callbacks(view: _Log | _Board) -> Callbacks:
        def on_event(event: object) -> None:
            if isinstance(event, TrialFinished):
                view.trial(event.record, event.trial)

        return Callbacks(view.progress, view.note, on_event)

    console = Console(stderr=True)
    if not (console.is_interactive and console.file.isatty()):
        return search(request, executors, callbacks(_Log()))
    with Live(console=console, auto_refresh=False) as live:  # drawn when something happens, and so never while timing
        return search(request, executors, callbacks(_Board(live)))


class _Log:
    """Elsewhere: a line for everything that begins, and for every trial."""

    def __init__(self) -> None:
        self._title = ""

    def progress(self, title: str, done: int, total: int) -> None:
        if title != self._title:
            self._title = title
            note(escape(title))

    def note(self, text: str) -> None:
        note(text)

    def trial(self, record: SearchRecord, trial: SearchTrial) -> None:
        done = f"{len(record.trials)} of {record.wanted_trials} finished"
        if trial.failure:
            note(escape(f"trial {trial.number} failed ({done}): {trial.failure}"))
            return
        place = "on the front" if trial.number in record.front else "beaten"
        latency = f"{_latency(trial)} ms{' (estimate)' if record.is_estimate else ''}"
        note(escape(f"trial {trial.number}, {place} ({done}): {latency}, points lost {drop_text(trial.drop)}"))


class _Board:
    """In a terminal: the front so far, and what is being done."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._front: RenderableType = ""
        self._status = ""

    def progress(self, title: str, done: int, total: int) -> None:
        self._status = f"{title} {done}/{total}" if total else title
        self._draw()

    def note(self, text: str) -> None:
        self._live.console.print(text, style="dim", highlight=False)

    def trial(self, record: SearchRecord, trial: SearchTrial) -> None:
        if trial.failure:
            self.note(escape(f"trial {trial.number} failed: {trial.failure}"))
        self._front = front_table(record)
        self._draw()

    def _draw(self) -> None:
        self._live.update(Group(self._front, f"[dim]{escape(self._status)} ...[/]"), refresh=True)


def front_table(record: SearchRecord) -> RenderableType:
    """The front, fastest first: what was chosen, latency, accuracy with the drop and what is sure of it."""
    title = (
        f"front of {len(record.trials)} of {record.wanted_trials} trials: {record.model} for {record.target}; "
        f"unpruned {percent(record.reference_top1)} % of {record.count} videos"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for header in ("trial", "latency ms", "top-1 %"):
        table.add_column(header, justify="right", no_wrap=True)
    for header in ("points lost (95 %)", "verdict", "pruned; INT8; clip"):
        table.add_column(header, no_wrap=header != "pruned; INT8; clip")
    for trial in record.on_front:
        drop = trial.drop
        cells = ("", "") if drop is None else (drop_text(drop).partition(";")[0], drop.verdict)
        top1 = "" if trial.top1 is None else percent(trial.top1)
        style = "green" if trial.number == record.chosen else "" if trial.within_budgets else "dim"
        table.add_row(str(trial.number), _latency(trial), top1, *cells, escape(stages_text(trial)), style=style)
    estimated = "~ is an estimate from the target's peak rates, never measured" if record.is_estimate else ""
    return Group(*(part for part in (escape(title), table, estimated) if part))


def _latency(trial: SearchTrial) -> str:
    if trial.latency_ms is None:
        return "-"
    return f"{'' if trial.latency else '~'}{ms(trial.latency_ms)}"


def _finish(record: SearchRecord, out: Path, json: bool) -> None:
    """Show the front and how to export from it; BudgetError where nothing of it keeps the budgets."""
    if json:
        emit_json(record)
    else:
        show(front_table(record))
        for number in record.front:
            mark = "  # the fastest within the budgets" if number == record.chosen else ""
            show(f"edgeact export --trial {shlex.quote(f'{out}:{number}')}{mark}")
    for text in record.notes:
        note(escape(text))
    note(f"wrote {out}; a page of it: edgeact report {shlex.quote(str(out))}")
    if record.chosen is None:
        from edgeact.export.search import shortfall

        raise BudgetError(
            f"none of {len(record.trials)} trials keeps the budgets: "
            f"{shortfall(record.on_front, record.max_ms, record.max_drop_points)}; '{out}' has them all, "
            "and more --trials go on from there"
        )
