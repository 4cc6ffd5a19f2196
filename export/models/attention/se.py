"""Squeeze-and-excitation (Hu, Shen and Sun, CVPR 2018, section 3), its squeeze over T, H and W."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeact.export.models.attention.base import Gate, Site
from edgeact.export.models.choices import AttentionChoices
from edgeact.export.models.layers import channel_mlp, spatial_mean

__all__ = ["SeChoices", "SqueezeExcitation", "se"]


class SqueezeExcitation(Gate):
    """One weight a channel, from all channels' means through a bottleneck."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc = channel_mlp(channels, reduction)

    def weights(self, x: Tensor) -> Tensor:
        """One a channel, `(N, C, 1, 1, 1)`."""
        return torch.sigmoid(self.fc(spatial_mean(x)))[:, :, None, None, None]


class SeChoices(AttentionChoices):
    """Options of squeeze-and-excitation."""

    reduction: int = Field(16, ge=1)
    """Channels per unit of the bottleneck."""


def se(site: Site, choices: SeChoices) -> nn.Module:
    """Squeeze-and-excitation for a site."""
    return SqueezeExcitation(site.channels, choices.reduction)
