"""Options of the model and its clips, alike for every verb that takes the user's own model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeact.cli.numbers import parse_channels, parse_size
from edgeact.cli.panels import CLIP, MODEL

if TYPE_CHECKING:
    from edgeact.export.models.loading import LoadRequest

__all__ = [
    "ChannelOrderChoice",
    "ClipOptions",
    "ClipSize",
    "Fps",
    "ModelOptions",
    "RandomWeights",
    "Resize",
    "Width",
    "load_request",
]


class ChannelOrderChoice(str, Enum):
    """Values of `--channel-order`."""

    rgb = "rgb"
    bgr = "bgr"


Width = Annotated[
    int | None,
    typer.Option(help="Channels of the first stage; default: the weights', else the paper's.", rich_help_panel=MODEL),
]
RandomWeights = Annotated[
    bool,
    typer.Option("--random-weights", help="Use random weights, to try the conversion only.", rich_help_panel=MODEL),
]
Fps = Annotated[
    float | None, typer.Option(help="Frame rate that a clip is sampled at, frames per second.", rich_help_panel=CLIP)
]
Resize = Annotated[
    str | None,
    typer.Option(
        metavar="HxW", help="Size that frames are resized to before the crop, e.g. 128x171.", rich_help_panel=CLIP
    ),
]


@dataclass(frozen=True)
class ModelOptions:
    """The model and its weights."""

    model: Annotated[
        str | None,
        typer.Argument(
            help="Registry model (see 'edgeact models') or package.module:factory; default: the shipped model.",
            metavar="MODEL",
        ),
    ] = None
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights file: .safetensors, or a .pt/.pth state dict.", rich_help_panel=MODEL),
    ] = None
    labels: Annotated[
        Path | None, typer.Option(help="Text file with the class labels, one label a line.", rich_help_panel=MODEL)
    ] = None
    width: Width = None


@dataclass(frozen=True)
class ClipSize:
    """Length and size of a clip."""

    clip_frames: Annotated[int | None, typer.Option(min=1, help="Frames per clip.", rich_help_panel=CLIP)] = None
    size: Annotated[
        int | None, typer.Option(min=16, help="Height and width of the input, pixels.", rich_help_panel=CLIP)
    ] = None


@dataclass(frozen=True)
class ClipOptions:
    """Sampling, resizing and normalization of a clip."""

    fps: Fps = None
    resize: Resize = None
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="Mean per channel of pixels scaled to 0..1, e.g. 0.5,0.5,0.5.",
            rich_help_panel=CLIP,
        ),
    ] = None
    std: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C", help="Standard deviation per channel of pixels scaled to 0..1.", rich_help_panel=CLIP
        ),
    ] = None
    channel_order: Annotated[
        ChannelOrderChoice | None,
        typer.Option(help="Channel order of the model's input, of --mean and of --std.", rich_help_panel=CLIP),
    ] = None


def load_request(
    model: ModelOptions, size: ClipSize, clip: ClipOptions, random_weights: bool = False, seed: int = 0
) -> LoadRequest:
    """Return the loader's request; an option that was not given is left to the weights and the paper.

    Raises UsageError if a text is not a size or three channel values, and DataError if the labels file is unusable.
    """
    from edgeact.export.models.labels import read_labels
    from edgeact.export.models.loading import LoadRequest
    from edgeact.export.models.spec import Pixels

    return LoadRequest(
        weights=model.weights,
        labels=read_labels(model.labels) if model.labels else None,
        width=model.width,
        clip_frames=size.clip_frames,
        size=size.size,
        fps=clip.fps,
        resize=parse_size(clip.resize) if clip.resize is not None else None,
        pixels=Pixels(
            mean=parse_channels("--mean", clip.mean) if clip.mean is not None else None,
            std=parse_channels("--std", clip.std) if clip.std is not None else None,
            channel_order=clip.channel_order.value if clip.channel_order else None,
        ),
        random_weights=random_weights,
        seed=seed,
    )
