"""The `edgeact` command: collect the verbs, and turn errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

import edgeact
from edgeact.cli import (
    attention,
    bench,
    calibrate,
    data,
    evaluate,
    export,
    inspect,
    models,
    report,
    run,
    search,
    targets,
    train,
    verify,
)
from edgeact.cli.output import note
from edgeact.cli.renamed_options import with_current_names
from edgeact.errors import EdgeactError, StorageError

__all__ = ["app", "main"]

# OpenCV and FFmpeg write to standard error by default; errors of edgeact say the same in one line.
_QUIET = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}

app = typer.Typer(
    name="edgeact",
    help="Deploy action-recognition 3-D CNNs: export to a bundle, run it, measure it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgeact {edgeact.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Deploy action-recognition 3-D CNNs: export to a bundle, run it, measure it."""


app.command("attention")(attention.command)
app.command("bench")(bench.command)
app.command("calibrate")(calibrate.command)
app.command("data")(data.command)
app.command("evaluate")(evaluate.command)
app.command("export")(export.command)
app.command("inspect")(inspect.command)
app.command("models")(models.command)
app.command("report")(report.command)
app.command("run")(run.command)
app.command("search")(search.command)
app.command("targets")(targets.command)
app.command("train")(train.command)
app.command("verify")(verify.command)


def main() -> None:
    """Run the console script; exits with the code of the error, with 130 if interrupted, with 143 on SIGTERM."""
    for name, level in _QUIET.items():
        os.environ.setdefault(name, level)  # read when OpenCV is imported, which no verb does before it runs
    with _unwinding_on_sigterm():
        try:
            app(args=with_current_names(sys.argv[1:], note), prog_name="edgeact")
        except EdgeactError as error:
            _fail(error)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            _drop_output()
            _fail(StorageError(f"cannot write {error.filename or 'the output'}: {error.strerror}; free some space"))


def _fail(error: EdgeactError) -> NoReturn:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    sys.exit(error.exit_code)


def _drop_output() -> None:
    """Discard buffered output, or Python would fail again when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _unwinding_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program as an exception does, so that half-written files are removed."""

    def unwind(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
