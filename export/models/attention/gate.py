"""The attention gate of "3D Convolutional with Attention for Action Recognition" (section 2, figure 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeact.export.models.attention.base import Gate, Site
from edgeact.export.models.part_options import AttentionOptions

__all__ = ["AttentionGate", "gate"]


class AttentionGate(Gate):
    """x * sigmoid(1x1x1 convolution of x): each value is gated by all channels at its position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, 1)

    def weights(self, x: Tensor) -> Tensor:
        """Return a weight per value, `(N, C, T, H, W)`."""
        return torch.sigmoid(self.conv(x))


def gate(site: Site, options: AttentionOptions) -> nn.Module:
    """Build the gate for a site."""
    return AttentionGate(site.channels)
