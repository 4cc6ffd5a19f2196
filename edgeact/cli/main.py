"""The `edgeact` command: collects the verbs and turns errors into one line and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

import edgeact
from edgeact.cli import bench, data, evaluate, export, inspect, report, run, targets, train
from edgeact.errors import EdgeactError

__all__ = ["app", "main"]

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
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Deploy action-recognition 3-D CNNs: export to a bundle, run it, measure it."""


app.command("bench")(bench.command)
app.command("data")(data.command)
app.command("evaluate")(evaluate.command)
app.command("export")(export.command)
app.command("inspect")(inspect.command)
app.command("report")(report.command)
app.command("run")(run.command)
app.command("targets")(targets.command)
app.command("train")(train.command)


def main() -> None:
    """Entry point of the console script; exits with the error's own code."""
    try:
        app()
    except EdgeactError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted", style="bold red")
        sys.exit(130)
