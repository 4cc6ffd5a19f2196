"""`edgeact attention`: draw the attention weights of a model for a video."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from edgeact.cli.output import JsonOption, emit_json, note, show
from edgeact.cli.panels import CLIP, MODEL, OUTPUT
from edgeact.cli.steps import STARTING, steps

if TYPE_CHECKING:
    from edgeact.export.explain import Picture
    from edgeact.export.explain.document import ModuleDocument

__all__ = ["command"]

_MODULES = ("stage", "kind", "channels", "frames", "positions")


def command(
    source: Annotated[
        str,
        typer.Argument(
            help="Weights (.safetensors of 'edgeact train'), a registry model, or a bundle (.edgeact).",
            metavar="SOURCE",
        ),
    ],
    video: Annotated[Path, typer.Argument(help="Video file.", metavar="VIDEO")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Picture to write: .png of one clip, or .mp4 of all clips.", rich_help_panel=OUTPUT
        ),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights of the registry model, or those that the bundle was built from; default: the shipped ones.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    start_s: Annotated[
        float, typer.Option("--start-s", min=0, help="Start of the first clip, seconds.", rich_help_panel=CLIP)
    ] = 0.0,
    label: Annotated[
        str | None,
        typer.Option(help="Class that Grad-CAM explains; default: the predicted one.", rich_help_panel=MODEL),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Draw attention weights over frames, positions, channels and frequencies of VIDEO, with Grad-CAM beside them.

    PyTorch computes them from weights. A bundle holds graphs and no weights: its weights are looked up among the
    shipped ones by the SHA-256 that the bundle records, or given with --weights, and must have that SHA-256. Bars
    rise and fall from their mean; the colors of every map go from its least to its largest value.
    """
    with steps() as shown:
        shown.begin(STARTING)
        from edgeact.export.explain import PictureRequest, make_picture

        request = PictureRequest(source, video, out, weights, start_s, label)
        picture = make_picture(request, shown.of("looking at clips"))
    for text in picture.notes:
        note(text)
    if json:
        emit_json(dataclasses.asdict(picture))
        return
    note(f"wrote {out}")
    first = picture.clips[0]
    best = first.top[0]
    show(f"{escape(picture.model)}: [bold]{escape(best.label)}[/] {best.score:.1%}{_more(picture)}")
    if first.modules:
        show(_table(first.modules))


def _more(picture: Picture) -> str:
    return f" in the first of {len(picture.clips)} clips" if len(picture.clips) > 1 else ""


def _table(modules: Sequence[ModuleDocument]) -> Table:
    """Return the range of the attention weights of every module in the first clip."""
    table = Table(
        box=None, pad_edge=False, header_style="bold", title="weights, least to largest", title_justify="left"
    )
    for header in _MODULES:
        table.add_column(header, justify="left" if header == "kind" else "right")
    for module in modules:
        positions = [weight for frame in module.maps or () for row in frame for weight in row]
        ranges = (_range(weights) for weights in (module.channels, module.frames, positions))
        table.add_row(str(module.stage), module.kind, *ranges)
    return table


def _range(weights: Sequence[float] | None) -> str:
    return f"{min(weights):.3f} to {max(weights):.3f}" if weights else "-"
