"""CBAM, the convolutional block attention module (Woo et al., ECCV 2018, section 3), with time as a third dimension."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeact.export.models.attention.base import Gate, Site, weigh_channels
from edgeact.export.models.attention.fsam import Sam
from edgeact.export.models.attention.se import SeOptions
from edgeact.export.models.layers import channel_mlp, spatial_mean

__all__ = ["Cbam", "ChannelAttention", "cbam"]


class ChannelAttention(Gate):
    """One weight per channel, from the means and maxima of all channels through one shared bottleneck."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc = channel_mlp(channels, reduction)

    def weights(self, x: Tensor) -> Tensor:
        """Return a weight per channel, `(N, C, 1, 1, 1)`."""
        both = self.fc(spatial_mean(x)) + self.fc(x.amax(dim=(2, 3, 4)))
        return torch.sigmoid(both)[:, :, None, None, None]

    def trace_channels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Couple the bottleneck with the channels by their means alone."""
        return (weigh_channels(x, self.fc),)


class Cbam(nn.Sequential):
    """Channel attention, then attention over T, H and W with the paper's kernel of 7 in each."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__(ChannelAttention(channels, reduction), Sam())


def cbam(site: Site, options: SeOptions) -> nn.Module:
    """Build CBAM for a site."""
    return Cbam(site.channels, options.reduction)
