"""Options that say which videos a verb calibrates and measures on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import typer

from edgeact.cli.panels import DATA, PRECISION

__all__ = ["DATA_HELP", "DataOptions", "Method", "MethodChoice", "Videos"]

DATA_HELP = "Data set, e.g. 'folder:/clips' or 'ucf101:/data/ucf101?split=1'; see docs/data.md."
_DEFAULT_DATA_HELP = f"{DATA_HELP} Default: stick-actions, which edgeact renders."


class MethodChoice(str, Enum):
    """Values of `--method`: the names of `edgeact.calibration.range_methods.METHODS`."""

    minmax = "minmax"
    percentile = "percentile"
    entropy = "entropy"
    mse = "mse"


Videos = Annotated[int, typer.Option(min=1, help="Number of videos to measure accuracy on.", rich_help_panel=DATA)]
Method = Annotated[
    MethodChoice,
    typer.Option(help="How the INT8 range of an activation is computed from its values.", rich_help_panel=PRECISION),
]


@dataclass(frozen=True)
class DataOptions:
    """The data set, and how much of it calibrates."""

    data: Annotated[str | None, typer.Option("--data", help=_DEFAULT_DATA_HELP, rich_help_panel=DATA)] = None
    clips: Annotated[int, typer.Option(min=1, help="Number of calibration clips.", rich_help_panel=DATA)] = 64
    accept_poor_calibration: Annotated[
        bool,
        typer.Option(
            "--accept-poor-calibration", help="Continue with too few or with random clips.", rich_help_panel=DATA
        ),
    ] = False
    seed: Annotated[
        int,
        typer.Option(min=0, help="Random seed of sampling, training and random weights.", rich_help_panel=DATA),
    ] = 0
