"""Where output goes: results to standard output, everything else (progress, notes, errors) to standard error.

With `--json` a verb writes one JSON document (or one line per window) to standard output and nothing else there.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["JsonOption", "emit_json", "note", "progress", "show"]

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, all else on stderr.")]


def show(renderable: RenderableType) -> None:
    """Print a result for a person on standard output."""
    Console().print(renderable)


def note(message: str) -> None:
    """Print a side remark on standard error."""
    Console(stderr=True).print(message, style="dim", highlight=False)


def emit_json(document: BaseModel | dict[str, Any], *, indent: int | None = 2) -> None:
    """Write one JSON document to standard output; `indent=None` gives one line."""
    if isinstance(document, BaseModel):
        text = document.model_dump_json(indent=indent)
    else:
        text = json.dumps(document, indent=indent, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def progress() -> Progress:
    """A progress display on standard error; use as a context manager."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=False,
    )
