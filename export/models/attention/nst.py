"""NST: temporal attention nested in spatial attention, one of the MSF paper's alternatives to FSAM (table 3).

Paper: Nesting spatiotemporal attention networks for action recognition (Li, Wei and Zheng 2021), of which the MSF
paper says that it embeds temporal attention into spatial attention and leaves the channels' dependency alone. Its
layers are not described there; docs/models.md says which are chosen here and by what.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeact.export.models.attention.base import Gate, Site
from edgeact.export.models.choices import AttentionChoices, Stages
from edgeact.export.models.layers import conv_bn

__all__ = ["Nst", "NstChoices", "nst"]


class Nst(Gate):
    """Spatial attention that looks at frames which temporal attention has weighed.

    Each is one convolution of all channels to a single map, over three frames and over 3x3 positions: 12 weights a
    channel, which after stages 3 and 4 are the 0.01 M that table 3 prints as NST's share.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.when = conv_bn(channels, 1, (3, 1, 1), relu=False)
        self.where = conv_bn(channels, 1, (1, 3, 3), relu=False)

    def weights(self, x: Tensor) -> Tensor:
        """One a position in time and space, `(N, 1, T, H, W)`: the frame's weight times the position's within it."""
        frames = torch.sigmoid(self.when(x.mean(dim=(3, 4), keepdim=True)))
        return frames * torch.sigmoid(self.where(x * frames))


class NstChoices(AttentionChoices):
    """Options of NST."""

    stages: Stages = (3, 4)


def nst(site: Site, choices: NstChoices) -> nn.Module:
    """NST for a site."""
    return Nst(site.channels)
