"""Which options somebody typed, as against those that have their defaults."""

from __future__ import annotations

import typer

__all__ = ["given"]


def given(context: typer.Context) -> list[str]:
    """Names of the parameters that were typed, in their order."""
    return [name for name in context.params if _is_given(context, name)]


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
