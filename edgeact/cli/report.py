"""`edgeact report`: bundles and latency records as a page, as Markdown and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeact.cli.output import JsonOption, emit_json, note
from edgeact.storage import write_text

__all__ = ["command"]


def command(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Bundles, and records of 'edgeact bench --out', 'evaluate --out' and 'search'.", metavar="BUNDLE..."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page: one HTML file that needs no network.")] = Path(
        "report.html"
    ),
    markdown: Annotated[Path | None, typer.Option(help="Write the same as Markdown here.")] = None,
    json: JsonOption = False,
) -> None:
    """Show accuracy against latency, every variant, and where each number is from, on one page."""
    from edgeact.report import read_inputs, render_html, render_markdown

    report = read_inputs(inputs)
    write_text(out, render_html(report))
    note(f"wrote {out}")
    if markdown:
        write_text(markdown, render_markdown(report))
        note(f"wrote {markdown}")
    if json:
        emit_json(report)
