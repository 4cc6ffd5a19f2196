"""Figures that the papers print of their models, read from `published.toml`."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Figure", "published_figures"]

_TABLE = Path(__file__).parent / "published.toml"


class Figure(BaseModel):
    """One row of a paper's table: a model at the paper's size, with its parameters and multiply-accumulates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """A formula."""
    source: str
    classes: int
    clip_frames: int
    parameters_m: float | None = None
    """Millions."""
    gmacs: float | None = None
    """Billions of multiply-accumulates per clip; the papers print them as 'GFLOPs'."""
    why_parameters: str | None = None
    """Why the printed number of parameters cannot be right, if ours differs."""
    why_gmacs: str | None = None
    """Why the printed multiply-accumulates cannot be right, if ours differ."""


@functools.cache
def published_figures() -> tuple[Figure, ...]:
    """Return all figures, in the order of the file."""
    with _TABLE.open("rb") as handle:
        return tuple(Figure.model_validate(row) for row in tomllib.load(handle)["figure"])
