"""Write results to standard output, and everything else (progress, notes, errors) to standard error.

With `--json` a verb writes one JSON document (or one line per window) to standard output and nothing else there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.markup import escape

from edgeact.cli.panels import OUTPUT

__all__ = ["JsonOption", "aside", "emit_json", "note", "runtime_notes", "show"]

JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Write the result as JSON to standard output; progress and notes go to standard error.",
        rich_help_panel=OUTPUT,
    ),
]

_FILE_WIDTH = 200


def show(renderable: RenderableType) -> None:
    """Print a result on standard output; in wide lines if that is a file or a pipe, so that grep finds names."""
    _print(Console(), renderable)


def aside(renderable: RenderableType) -> None:
    """Print `renderable` on standard error, as `show` does on standard output."""
    _print(Console(stderr=True), renderable)


def _print(console: Console, renderable: RenderableType) -> None:
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _FILE_WIDTH
    console.print(renderable)


def note(message: str) -> None:
    """Print a remark on standard error."""
    Console(stderr=True).print(message, style="dim", highlight=False)


def emit_json(document: BaseModel | Mapping[str, object], *, indent: int | None = 2) -> None:
    """Write one JSON document to standard output; `indent=None` gives one line."""
    if isinstance(document, BaseModel):
        text = document.model_dump_json(indent=indent)
    else:
        text = json.dumps(document, indent=indent, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def runtime_notes() -> Iterator[None]:
    """Print the warnings of the runtime, and its log of long operations, on standard error as notes."""

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(escape(record.getMessage()))

    logger, handler = logging.getLogger("edgeact.runtime"), Notes(logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_, **__: note(escape(str(message)))
            yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
