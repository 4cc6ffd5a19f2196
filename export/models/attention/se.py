"""Squeeze-and-excitation (Hu, Shen and Sun, CVPR 2018, section 3) of channels, or of frames."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeact.export.models.attention.base import Along, Gate, Site, axes_but, weigh_channels
from edgeact.export.models.layers import channel_mlp
from edgeact.export.models.part_options import AttentionOptions
from edgeact.export.models.pruning.plan import KeptChannels

__all__ = ["SeOptions", "SqueezeExcitation", "se"]


class SqueezeExcitation(Gate):
    """One weight per channel (or frame), computed from the means of all channels (or frames) through a bottleneck."""

    def __init__(self, count: int, reduction: int = 16, along: Along = "channels") -> None:
        """`count` is the number of channels or frames to weigh."""
        super().__init__()
        self.along = along
        self.title = f"{along.removesuffix('s')} attention"
        self.fc = channel_mlp(count, reduction)

    def weights(self, x: Tensor) -> Tensor:
        """Return weights, `(N, C, 1, 1, 1)` along channels, `(N, 1, T, 1, 1)` along frames."""
        pooled = x.mean(dim=axes_but(self.along), keepdim=True)
        return torch.sigmoid(self.fc(pooled.flatten(1))).reshape(pooled.shape)

    def trace_channels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Along channels, couple the bottleneck with them; along frames, no parameter belongs to a channel."""
        return (weigh_channels(x, self.fc) if self.along == "channels" else x,)

    def remove_channels(self, kept: KeptChannels) -> None:
        """Along frames, scale the first layer by the share of kept channels.

        Removed channels count as zero, so without them the means over channels grow by the inverse of that share.
        """
        if self.along == "frames":
            self.get_parameter("fc.0.weight").mul_(kept.share)


class SeOptions(AttentionOptions):
    """Options of squeeze-and-excitation."""

    reduction: int = Field(16, ge=1)
    """Channels per unit of the bottleneck."""


def se(site: Site, options: SeOptions) -> nn.Module:
    """Build squeeze-and-excitation for a site."""
    return SqueezeExcitation(site.channels, options.reduction)
