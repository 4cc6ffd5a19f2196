"""`edgeact run`: classify a video file, camera, stream or pipeline, live in the terminal."""

from __future__ import annotations

import contextlib
import statistics
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from edgeact.cli.option_groups import with_option_groups
from edgeact.cli.output import JsonOption, emit_json, runtime_notes, show
from edgeact.cli.panels import CLIP, OUTPUT
from edgeact.cli.session_options import BundleArgument, BundleOptions, CheckChoice, CheckOption, DeviceOption

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeact.runtime import Prediction, Recognizer, WindowResult

__all__ = ["command"]

_INTERRUPTED = 130


@with_option_groups
def command(
    *,
    bundle: BundleArgument,
    source: Annotated[
        str, typer.Argument(help="Video file, camera index, rtsp:// address or GStreamer pipeline.", metavar="SOURCE")
    ],
    options: BundleOptions,
    device: DeviceOption = None,
    check: CheckOption = CheckChoice.auto,
    hop_s: Annotated[
        float | None,
        typer.Option(
            "--hop-s",
            help="Seconds from one window to the next; default: the window's length, so that none overlap.",
            rich_help_panel=CLIP,
        ),
    ] = None,
    max_windows: Annotated[
        int | None,
        typer.Option("--max-windows", min=1, help="Stop after this number of windows.", rich_help_panel=CLIP),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of labels to show.", rich_help_panel=OUTPUT)] = 5,
    json: JsonOption = False,
) -> None:
    """Classify every window of SOURCE; with --json write one line a window, then one line with the summary."""
    from edgeact import runtime

    with (
        runtime_notes(),
        runtime.load(
            bundle,
            backend=options.backend,
            artifact=options.artifact,
            device=device,
            threads=options.threads,
            trust_engines=options.trust_engines,
            check=check.value,
        ) as recognizer,
    ):
        tally = _Tally(recognizer, source, top)
        interrupted = _run(recognizer, tally, hop_s, max_windows, json)
        if tally.windows and json:
            emit_json(tally.summary(), indent=None)
        elif tally.windows:
            show(tally.closing_line())
    if interrupted:
        raise typer.Exit(_INTERRUPTED)


def _run(recognizer: Recognizer, tally: _Tally, hop_s: float | None, max_windows: int | None, json: bool) -> bool:
    """Classify until the source ends or `max_windows` are done; return whether the user interrupted."""
    view: contextlib.AbstractContextManager[Live | None] = contextlib.nullcontext()
    if not json and Console().is_terminal:
        view = Live(console=Console(), auto_refresh=False)
    try:
        with view as live, contextlib.closing(recognizer.stream(tally.source, hop_s)) as results:
            for result in results:
                tally.add(result)
                _show_window(tally, result, live, json)
                if tally.windows == max_windows:
                    break
    except KeyboardInterrupt:
        return True
    return False


def _show_window(tally: _Tally, result: WindowResult, live: Live | None, json: bool) -> None:
    if json:
        emit_json(_window_document(result, tally.windows - 1, tally.top), indent=None)
    elif live is not None:
        live.update(_screen(tally, result), refresh=True)
    else:
        show(escape(_line(result, tally.top)))


class _Tally:
    """Running totals over the windows so far."""

    def __init__(self, recognizer: Recognizer, source: str, top: int) -> None:
        self.recognizer = recognizer
        self.source = source
        self.top = top
        self.windows = 0
        self.dropped = 0
        self._scores: NDArray[np.float32] | None = None
        self._total_ms: list[float] = []

    def add(self, result: WindowResult) -> None:
        self.windows += 1
        self.dropped += result.windows_dropped
        scores = result.prediction.scores
        self._scores = scores if self._scores is None else self._scores + scores
        self._total_ms.append(result.prediction.times.total_ms)

    @property
    def latency_ms(self) -> float:
        """Median time of `predict` over the windows, ms."""
        return statistics.median(self._total_ms)

    def mean(self) -> tuple[tuple[str, float], ...]:
        """Return the best labels of the whole source with their mean score over the windows."""
        sums = [] if self._scores is None else self._scores.tolist()
        pairs = zip(self.recognizer.labels, sums, strict=True)
        ranked = sorted(((label, total / self.windows) for label, total in pairs), key=lambda pair: -pair[1])
        return tuple(ranked[: self.top])

    def summary(self) -> dict[str, object]:
        choice = self.recognizer.choice
        return {
            "kind": "summary",
            "source": self.source,
            "artifact": choice.artifact,
            "backend": choice.backend,
            "device": choice.device,
            "windows": self.windows,
            "windows_dropped": self.dropped,
            "top": _ranking(self.mean()),
            "latency_p50_ms": self.latency_ms,
        }

    def closing_line(self) -> str:
        label, score = self.mean()[0]
        dropped = f", {self.dropped} dropped" if self.dropped else ""
        return (
            f"[bold]{escape(label)}[/] {score:.1%} (mean of {self.windows} windows{dropped}); "
            f"{self.latency_ms:.1f} ms a clip (median)"
        )


def _window_document(result: WindowResult, index: int, top: int) -> dict[str, object]:
    times = result.prediction.times
    return {
        "kind": "window",
        "index": index,
        "start_s": round(result.start_s, 6),
        "end_s": round(result.end_s, 6),
        "top": _ranking(result.prediction.best(top)),
        "preprocess_ms": times.preprocess_ms,
        "inference_ms": times.inference_ms,
        "total_ms": times.total_ms,
        "windows_dropped": result.windows_dropped,
        "frames_dropped": result.frames_dropped,
        "notes": list(result.notes),
    }


def _ranking(best: tuple[tuple[str, float], ...]) -> list[dict[str, object]]:
    return [{"label": label, "score": score} for label, score in best]


def _line(result: WindowResult, top: int) -> str:
    best = ", ".join(f"{label} {score:.1%}" for label, score in result.prediction.best(top))
    return f"{_span(result)}  {best}  ({result.prediction.times.total_ms:.1f} ms)"


def _span(result: WindowResult) -> str:
    return f"{result.start_s:8.2f} - {result.end_s:.2f} s"


def _screen(tally: _Tally, result: WindowResult) -> RenderableType:
    choice = tally.recognizer.choice
    times = result.prediction.times
    dropped = f", {tally.dropped} windows dropped" if tally.dropped else ""
    return Group(
        f"[bold]{escape(tally.source)}[/]  {_span(result).strip()}",
        _bars(result.prediction, tally.top),
        f"[dim]{choice.artifact} on {choice.backend} ({choice.device}): preprocessing {times.preprocess_ms:.1f} ms, "
        f"inference {times.inference_ms:.1f} ms; median {tally.latency_ms:.1f} ms = "
        f"{1e3 / tally.latency_ms:.0f} clips/s at most{dropped}[/]",
    )


def _bars(prediction: Prediction, top: int) -> Table:
    table = Table.grid(padding=(0, 1))
    for label, score in prediction.best(top):
        table.add_row(escape(label), ProgressBar(total=1.0, completed=score, width=40), f"{score:6.1%}")
    return table
