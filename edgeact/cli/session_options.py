"""Options that say how a bundle is opened and where work runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, get_args

import typer

from edgeact.cli.panels import RUNTIME
from edgeact.devices.profile import BackendName

__all__ = [
    "BundleArgument",
    "BundleOptions",
    "CheckChoice",
    "CheckOption",
    "DeviceOption",
    "ExecutorOption",
    "VerifyOptions",
]

_BACKENDS = ", ".join(get_args(BackendName))

BundleArgument = Annotated[
    Path, typer.Argument(help="Bundle (.edgeact) that 'edgeact export' wrote.", metavar="BUNDLE")
]


class CheckChoice(str, Enum):
    """Values of `--check`."""

    auto = "auto"
    always = "always"
    never = "never"


CheckOption = Annotated[
    CheckChoice,
    typer.Option(
        "--check",
        help="When the artifact is checked by the bundle's golden clip: auto is once for each machine, backend and "
        "version.",
        rich_help_panel=RUNTIME,
    ),
]


@dataclass(frozen=True)
class BundleOptions:
    """The artifact of a bundle, the backend that runs it, and the trust in its engines."""

    artifact: Annotated[
        str | None,
        typer.Option(help="Artifact of the bundle; default: the first that runs here.", rich_help_panel=RUNTIME),
    ] = None
    backend: Annotated[
        str | None,
        typer.Option(help=f"Inference backend: {_BACKENDS}; default: the artifact's first.", rich_help_panel=RUNTIME),
    ] = None
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: the backend's choice.", rich_help_panel=RUNTIME)
    ] = None
    trust_engines: Annotated[
        bool,
        typer.Option(
            "--trust-engines",
            help="Open engines, which are executable code, even if this user did not build them on this machine.",
            rich_help_panel=RUNTIME,
        ),
    ] = False


@dataclass(frozen=True)
class VerifyOptions(BundleOptions):
    """Bundle options of a verb that opens every artifact on every backend."""

    artifact: Annotated[
        str | None, typer.Option(help="The only artifact to check; default: all.", rich_help_panel=RUNTIME)
    ] = None
    backend: Annotated[
        str | None,
        typer.Option(
            help=f"The only inference backend to check on: {_BACKENDS}; default: all.", rich_help_panel=RUNTIME
        ),
    ] = None


DeviceOption = Annotated[
    str | None,
    typer.Option(help="Device of the backend, e.g. CPU, GPU, CUDA:0; default: the best one.", rich_help_panel=RUNTIME),
]
ExecutorOption = Annotated[
    str,
    typer.Option(
        help="Where work runs: local, or dask://HOST:PORT of a Dask scheduler whose workers read the same paths.",
        rich_help_panel=RUNTIME,
    ),
]
