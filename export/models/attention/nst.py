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
    """Weights of one map over time and space, by a convolution of all channels."""

    def __init__(self, channels: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv = conv_bn(channels, 1, kernel, relu=False)

    def trace_channels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return `x`, and the map that the convolution makes of its channels."""
        return x, self.conv(x)


class When(_Map):
    """Temporal attention: a frame by what it and its two neighbours show on average."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, (3, 1, 1))

    def weights(self, x: Tensor) -> Tensor:
        """One a frame, `(N, 1, T, 1, 1)`."""
        return torch.sigmoid(self.conv(x.mean(dim=(3, 4), keepdim=True)))


class Where(_Map):
    """Spatial attention: a position by itself and its eight neighbours in the frame."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, (1, 3, 3))

    def weights(self, x: Tensor) -> Tensor:
        """One a position in time and space, `(N, 1, T, H, W)`."""
        return torch.sigmoid(self.conv(x))


class Nst(nn.Sequential):
    """Spatial attention that looks at frames which temporal attention has weighed.

    12 weights a channel, which after stages 3 and 4 are the 0.01 M that table 3 prints as NST's share.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(When(channels), Where(channels))


class NstOptions(AttentionOptions):
    """Options of NST."""

    stages: Stages = (3, 4)


def nst(site: Site, options: NstOptions) -> nn.Module:
    """NST for a site."""
    return Nst(site.channels)
