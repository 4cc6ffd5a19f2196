"""`edgeact export --trial FILE:N` and `--recipe FILE`: build a trial of a search, or a recipe, again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgeact.cli.explicit_options import typed_options
from edgeact.cli.pruning import show_plan
from edgeact.cli.steps import STARTING, callbacks_of, steps
from edgeact.errors import UsageError

if TYPE_CHECKING:
    from edgeact.bundle import Bundle

__all__ = ["bundle_of_recipe", "bundle_of_trial"]

_ALLOWED = {"out", "json"}


def bundle_of_trial(context: typer.Context, text: str, out: Path | None) -> Bundle:
    """Export the trial that `text`, FILE:N, names; raises UsageError if an option was typed that the record decides."""
    file, _, number = text.rpartition(":")
    if not (file and number.isdecimal()):
        raise UsageError(f"expected --trial FILE.search.json:N, got '{text}'")
    _refuse_others(context, "trial", "record")
    with steps() as shown:
        shown.begin(STARTING)
        from edgeact.export.search import export_trial

        stem = Path(file).name.removesuffix(".json").removesuffix(".search")
        bundle = out or Path(f"{stem}-{number}.edgeact")
        return export_trial(Path(file), int(number), bundle, callbacks_of(shown, show_plan))


def bundle_of_recipe(context: typer.Context, file: Path, out: Path | None) -> Bundle:
    """Build the recipe in `file`, JSON or bundle; raises UsageError if an option was typed that the recipe decides."""
    _refuse_others(context, "recipe", "recipe")
    with steps() as shown:
        shown.begin(STARTING)
        from edgeact.export.build import build, read_recipe

        recipe = read_recipe(file)
        bundle = out or Path(f"{file.stem}-rebuilt.edgeact")
        return build(recipe, callbacks=callbacks_of(shown, show_plan), out=bundle).bundle


def _refuse_others(context: typer.Context, option: str, document: str) -> None:
    others = [name for name in typed_options(context) if name not in {*_ALLOWED, option}]
    if others:
        names = ", ".join("MODEL" if name == "model" else f"--{name.replace('_', '-')}" for name in others)
        raise UsageError(f"--{option}: the {document} decides {names}; leave {names} out, or export without --{option}")
