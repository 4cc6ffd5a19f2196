"""`edgeact report`: describe bundles and records on an HTML page, in Markdown and in JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeact.cli.output import JsonOption, emit_json, note
from edgeact.cli.panels import OUTPUT
from edgeact.storage import write_text

__all__ = ["command"]


def command(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Bundles, and records that bench, evaluate and search wrote with --out.", metavar="BUNDLE..."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="HTML page to write, one file that needs no network.", rich_help_panel=OUTPUT),
    ] = Path("report.html"),
    markdown: Annotated[
        Path | None, typer.Option(help="Markdown file to write in addition.", rich_help_panel=OUTPUT)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show accuracy against latency, every artifact, and the source of every number, on one page."""
    from edgeact.report import read_inputs, render_html, render_markdown

    report = read_inputs(inputs)
    write_text(out, render_html(report))
    note(f"wrote {out}")
    if markdown:
        write_text(markdown, render_markdown(report))
        note(f"wrote {markdown}")
    if json:
        emit_json(report)
