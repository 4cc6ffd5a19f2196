"""Options that say what a model is built for and what an artifact may lose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from edgeact.cli.panels import OUTPUT, PRECISION

__all__ = ["BuildOptions"]


@dataclass(frozen=True)
class BuildOptions:
    """The accepted accuracy drop, the target, and the threads to measure with."""

    max_drop: Annotated[
        float,
        typer.Option(
            min=0.0, help="Largest accepted accuracy drop, percentage points of top-1.", rich_help_panel=PRECISION
        ),
    ] = 1.0
    target: Annotated[
        str, typer.Option(help="Board, or jetson, desktop or cpu; see 'edgeact targets'.", rich_help_panel=OUTPUT)
    ] = "cpu"
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads to measure latency with; default: all.", rich_help_panel=OUTPUT),
    ] = None
