"""Squeeze-and-excitation (Hu, Shen and Sun, CVPR 2018, section 3) of channels, or of frames."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeact.export.models.attention.base import Along, Gate, Site, axes_but
from edgeact.export.models.layers import channel_mlp
from edgeact.export.models.part_options import AttentionOptions

__all__ = ["SeOptions", "SqueezeExcitation", "se"]


class SqueezeExcitation(Gate):
    """One weight a channel (or a frame), from the means of all of them through a bottleneck."""

    def __init__(self, count: int, reduction: int = 16, along: Along = "channels") -> None:
        """`count`: how many channels or frames there are to weigh."""
        super().__init__()
        self.along = along
        self.fc = channel_mlp(count, reduction)

    def weights(self, x: Tensor) -> Tensor:
        """`(N, C, 1, 1, 1)` along channels, `(N, 1, T, 1, 1)` along frames."""
        pooled = x.mean(dim=axes_but(self.along), keepdim=True)
        return torch.sigmoid(self.fc(pooled.flatten(1))).reshape(pooled.shape)


class SeOptions(AttentionOptions):
    """Options of squeeze-and-excitation."""

    reduction: int = Field(16, ge=1)
    """Channels per unit of the bottleneck."""


def se(site: Site, options: SeOptions) -> nn.Module:
    """Squeeze-and-excitation for a site."""
    return SqueezeExcitation(site.channels, options.reduction)
