"""`edgeact export --trial FILE:N`: a trial of `edgeact search` as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgeact.cli.explicit_options import given
from edgeact.cli.pruning import show_plan
from edgeact.cli.steps import STARTING, callbacks_of, steps
from edgeact.errors import UsageError

if TYPE_CHECKING:
    from edgeact.bundle import Bundle

__all__ = ["bundle_of_trial"]

_ITS_OWN = {"trial", "out", "json"}


def bundle_of_trial(context: typer.Context, text: str, out: Path | None) -> Bundle:
    """Export trial N of the record in FILE; UsageError where anything is given that the record decides."""
    file, _, number = text.rpartition(":")
    if not (file and number.isdecimal()):
        raise UsageError(f"expected --trial FILE.search.json:N, got '{text}'")
    others = [name for name in given(context) if name not in _ITS_OWN]
    if others:
        told = ", ".join("MODEL" if name == "model" else f"--{name.replace('_', '-')}" for name in others)
        raise UsageError(f"a trial has everything in its record: leave {told} out, or export without --trial")
    with steps() as shown:
        shown.begin(STARTING)
        from edgeact.export.search import export_trial

        stem = Path(file).name.removesuffix(".json").removesuffix(".search")
        bundle = out or Path(f"{stem}-{number}.edgeact")
        return export_trial(Path(file), int(number), bundle, callbacks_of(shown, show_plan))
