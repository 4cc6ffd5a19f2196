"""`edgeact models`: list the models with their cost beside the figures of their papers, and the parts to combine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from edgeact.cli.output import JsonOption, emit_json, show
from edgeact.cli.panels import OUTPUT
from edgeact.cli.steps import STARTING, steps
from edgeact.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeact.export.models.catalog import Entry, Part
    from edgeact.export.models.checkpoint import ModelCard
    from edgeact.export.models.spec import ModelSpec

__all__ = ["command"]


def command(
    name: Annotated[
        str | None, typer.Argument(help="Model or combination to show in full; default: list all.", metavar="MODEL")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the list as the table of docs/models.md.", rich_help_panel=OUTPUT)
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the models with the figures of their papers, or show one model; any BACKBONE+ATTENTION is a model."""
    if markdown and (json or name):
        raise UsageError("--markdown prints the whole list: expected neither a name nor --json with it")
    if markdown:
        from edgeact.export.models.catalog import markdown as table

        typer.echo(table())
    elif name is None:
        _list(json)
    else:
        _show_model(name, json)


def _list(json: bool) -> None:
    with steps() as shown:
        shown.begin(STARTING)
        from edgeact.export.models.catalog import attentions, backbones, catalog

        shown.begin("counting parameters and multiplications")
        entries, parts_by_kind = list(catalog()), {"backbones": backbones(), "attentions": attentions()}
    if json:
        documents = {kind: [part.model_dump() for part in parts] for kind, parts in parts_by_kind.items()}
        emit_json({"models": [entry.document() for entry in entries], **documents})
        return
    show(_table(entries))
    for kind, parts in parts_by_kind.items():
        show(_parts_table(kind, parts))
    show("any BACKBONE+ATTENTION?option=value&option=value is a model; 'edgeact models NAME' explains the options")


def _show_model(name: str, json: bool) -> None:
    from edgeact.export.models.catalog import attentions, backbones, entries_of
    from edgeact.export.models.checkpoint import read_weights, shipped_weights
    from edgeact.export.models.registry import find_model

    spec = find_model(name)
    formula, entries = spec.formula, entries_of(spec)
    parts = [part for part in backbones() if part.name == formula.backbone.name]
    parts += [part for part in attentions() if formula.attention and part.name == formula.attention.name]
    shipped = shipped_weights().get(spec.name)
    card = read_weights(shipped).card if shipped else None
    if json:
        emit_json(
            {
                "entries": [entry.document() for entry in entries],
                "parts": [part.model_dump() for part in parts],
                "shipped_weights": card.model_dump(mode="json") if card else None,
            }
        )
    else:
        show(Group(_facts(spec, card), _table(entries), *(_options_table(spec, part) for part in parts)))


def _table(entries: Sequence[Entry]) -> RenderableType:
    """Return one row per entry; below the table, the reasons why figures of a paper cannot be met."""
    from edgeact.export.models.catalog import HEADERS

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for index, header in enumerate(HEADERS):
        is_text = index in (0, len(HEADERS) - 1)
        table.add_column(
            header,
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=index not in (1, 2, len(HEADERS) - 1),
        )
    for entry in entries:
        table.add_row(*map(escape, entry.cells))
    reasons = dict.fromkeys(f"{entry.name}: {reason}" for entry in entries for reason in entry.reasons)
    return Group(table, *map(escape, reasons))


def _parts_table(kind: str, parts: Sequence[Part]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in (kind, "options and their defaults", "source"):
        table.add_column(header, overflow="fold", no_wrap=header == kind)
    for part in parts:
        chosen = " ".join(f"{option.name}={option.default}" for option in part.options)
        table.add_row(*map(escape, (part.name, chosen or "-", part.source)))
    return table


def _facts(spec: ModelSpec, card: ModelCard | None) -> RenderableType:
    clip = spec.clip
    table = Table(box=None, pad_edge=False, show_header=False)
    shipped = f"width {card.width}, {len(card.labels)} classes, {card.provenance.get('data', '')}" if card else "none"
    rows = {
        "model": spec.name,
        "formula": str(spec.formula),
        "paper": spec.paper,
        "clip": f"{clip.clip_frames} frames at {clip.fps:g} frames/s, resized to {clip.resize[0]}x{clip.resize[1]}, "
        f"cropped to {clip.crop[0]}x{clip.crop[1]}",
        "mean, std": f"{', '.join(map(str, clip.mean))}; {', '.join(map(str, clip.std))}",
        "width": str(spec.width),
        "shipped weights": shipped,
    }
    for key, value in rows.items():
        table.add_row(key, escape(value))
    return table


def _options_table(spec: ModelSpec, part: Part) -> RenderableType:
    """Return the options of `part` with the values of this model."""
    formula = spec.formula
    options = formula.backbone_options if part.name == formula.backbone.name else formula.attention_options
    chosen = options.text() if options else {}
    table = Table(box=None, pad_edge=False, header_style="bold", title=escape(part.name), title_justify="left")
    for header in ("option", "here", "default", "allowed", "meaning"):
        table.add_column(header, overflow="fold")
    for option in part.options:
        here = chosen.get(option.name, option.default)
        table.add_row(*map(escape, (option.name, here, option.default, option.allowed, option.meaning)))
    return table if part.options else f"{escape(part.name)} has no options"
