"""`edgeact attention`: a picture of what a model's attention weighs in a video."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from edgeact.cli.output import JsonOption, emit_json, note, show
from edgeact.cli.steps import STARTING, steps

if TYPE_CHECKING:
    from edgeact.export.explain import Picture

__all__ = ["command"]

_MODULES = ("stage", "kind", "channels", "frames", "positions")


def command(
    source: Annotated[
        str,
        typer.Argument(help="Weights (.safetensors of 'edgeact train'), a registry model, or a bundle (.edgeact)."),
    ],
    video: Annotated[Path, typer.Argument(help="Video file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture: .png of one clip, .mp4 of all clips.")],
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights of a model, or those a bundle was made from; default: the shipped ones."),
    ] = None,
    start_s: Annotated[float, typer.Option("--start-s", min=0, help="Where in the video to begin, seconds.")] = 0.0,
    label: Annotated[str | None, typer.Option(help="Class that Grad-CAM explains; default: the best.")] = None,
    json: JsonOption = False,
) -> None:
    """Show what a model's attention weighs in VIDEO: frames, positions, channels, frequencies, and Grad-CAM beside.

    PyTorch computes it, from weights. A bundle holds graphs and no weights: what it was made from is found by the
    SHA-256 that it records, among the shipped weights, or is the file given with --weights, which must have that
    SHA-256. Bars rise and fall from their mean; every map's colours go from its least to its largest value.
    """
    with steps() as shown:
        shown.begin(STARTING)
        from edgeact.export.explain import PictureRequest, make_picture

        request = PictureRequest(source, video, out, weights, start_s, label)
        picture = make_picture(request, shown.of("looking at clips"))
    for told in picture.notes:
        note(told)
    if json:
        emit_json(dataclasses.asdict(picture))
        return
    note(f"wrote {out}")
    first = picture.clips[0]
    best = first["top"][0]
    show(f"{escape(picture.model)}: [bold]{escape(best['label'])}[/] {best['score']:.1%}{_more(picture)}")
    if first["modules"]:
        show(_table(first["modules"]))


def _more(picture: Picture) -> str:
    return f" in the first of {len(picture.clips)} clips" if len(picture.clips) > 1 else ""


def _table(modules: list[dict[str, Any]]) -> Table:
    """How far the weights of the first clip lie apart."""
    table = Table(
        box=None, pad_edge=False, header_style="bold", title="weights, least to largest", title_justify="left"
    )
    for header in _MODULES:
        table.add_column(header, justify="left" if header == "kind" else "right")
    for module in modules:
        maps = [value for one in module["maps"] or () for line in one for value in line]
        spans = (_span(values) for values in (module["channels"], module["frames"], maps))
        table.add_row(str(module["stage"]), module["kind"], *spans)
    return table


def _span(values: list[float] | None) -> str:
    return f"{min(values):.3f} to {max(values):.3f}" if values else "-"
