"""Options that were typed on the command line, as opposed to those that have their defaults."""

from __future__ import annotations

import typer

__all__ = ["typed_options"]


def typed_options(context: typer.Context) -> list[str]:
    """Return the names of the parameters that were typed, in the order of their declaration."""
    return [name for name in context.params if _is_typed(context, name)]


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
