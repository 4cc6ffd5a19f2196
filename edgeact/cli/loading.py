"""The options that say how a model is loaded, alike for every verb that takes the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeact.cli.numbers import parse_channels, parse_size

if TYPE_CHECKING:
    from edgeact.export.models.loading import LoadRequest

__all__ = [
    "ChannelOrder",
    "ChannelOrderChoice",
    "ClipFrames",
    "Fps",
    "Labels",
    "Mean",
    "ModelOptions",
    "RandomWeights",
    "Resize",
    "Size",
    "Std",
    "Weights",
    "Width",
]


class ChannelOrderChoice(str, Enum):
    """What `--channel-order` takes."""

    rgb = "rgb"
    bgr = "bgr"


Weights = Annotated[Path | None, typer.Option(help=".safetensors, or a .pt/.pth state dict.")]
RandomWeights = Annotated[bool, typer.Option("--random-weights", help="Try it without weights.")]
Labels = Annotated[Path | None, typer.Option(help="Text file, one label a line.")]
Width = Annotated[int | None, typer.Option(help="Channels of the first stage.")]
ClipFrames = Annotated[int | None, typer.Option(min=1, help="Frames in a clip.")]
Size = Annotated[int | None, typer.Option(min=16, help="Height and width of the input, pixels.")]
Fps = Annotated[float | None, typer.Option(help="Frames per second of a clip.")]
Resize = Annotated[str | None, typer.Option(help="HxW before the crop, e.g. 128x171.")]
Mean = Annotated[str | None, typer.Option(help="Per channel, of pixels within 0..1, e.g. 0.5,0.5,0.5.")]
Std = Annotated[str | None, typer.Option(help="Per channel, of pixels within 0..1.")]
ChannelOrder = Annotated[ChannelOrderChoice | None, typer.Option(help="Of the input, of --mean and --std.")]


@dataclass(frozen=True)
class ModelOptions:
    """These options as they were given."""

    weights: Path | None
    labels: Path | None
    width: int | None
    clip_frames: int | None
    size: int | None
    fps: float | None
    resize: str | None
    mean: str | None
    std: str | None
    channel_order: ChannelOrderChoice | None
    random_weights: bool = False
    seed: int = 0

    def request(self) -> LoadRequest:
        """What the loader takes; UsageError for texts that are no sizes, channels or labels."""
        from edgeact.export.models.loading import LoadRequest, read_labels
        from edgeact.export.models.spec import Pixels

        return LoadRequest(
            weights=self.weights,
            labels=read_labels(self.labels) if self.labels else None,
            width=self.width,
            clip_frames=self.clip_frames,
            size=self.size,
            fps=self.fps,
            resize=parse_size(self.resize) if self.resize is not None else None,
            pixels=Pixels(
                mean=parse_channels("--mean", self.mean) if self.mean is not None else None,
                std=parse_channels("--std", self.std) if self.std is not None else None,
                channel_order=self.channel_order.value if self.channel_order else None,
            ),
            random_weights=self.random_weights,
            seed=self.seed,
        )
