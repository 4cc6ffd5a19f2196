"""NST: temporal attention nested in spatial attention, one of the MSF paper's alternatives to FSAM (table 3).

Paper: Nesting spatiotemporal attention networks for action recognition (Li, Wei and Zheng 2021), of which the MSF
paper says that it embeds temporal attention into spatial attention and leaves the channels' dependency alone. Its
layers are not described there; docs/models.md says which are chosen here and by what.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeact.export.models.attention.base import Gate, Site
from edgeact.export.models.layers import conv_bn
from edgeact.export.models.part_options import AttentionOptions, Stages

__all__ = ["Nst", "NstOptions", "When", "Where", "nst"]


class _Map(Gate):
    """Weights from a convolution of all channels to one map."""

    def __init__(self, channels: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv = conv_bn(channels, 1, kernel, relu=False)

    def trace_channels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return `x`, and the map that the convolution makes of its channels."""
        return x, self.conv(x)


class When(_Map):
    """Temporal attention: a weight per frame from the spatial means of the frame and its two neighbors."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, (3, 1, 1))

    def weights(self, x: Tensor) -> Tensor:
        """Return a weight per frame, `(N, 1, T, 1, 1)`."""
        return torch.sigmoid(self.conv(x.mean(dim=(3, 4), keepdim=True)))


class Where(_Map):
    """Spatial attention: a weight per position from the position and its eight neighbors in the frame."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, (1, 3, 3))

    def weights(self, x: Tensor) -> Tensor:
        """Return a weight per position in time and space, `(N, 1, T, H, W)`."""
        return torch.sigmoid(self.conv(x))


class Nst(nn.Sequential):
    """Temporal attention, then spatial attention on its output.

    12 parameters per channel, which after stages 3 and 4 are the 0.01 M that table 3 prints as NST's share.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(When(channels), Where(channels))


class NstOptions(AttentionOptions):
    """Options of NST."""

    stages: Stages = (3, 4)


def nst(site: Site, options: NstOptions) -> nn.Module:
    """Build NST for a site."""
    return Nst(site.channels)
