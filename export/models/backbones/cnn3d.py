"""The 3-D CNN with attention gate: one 3-D convolution, a sigmoid gate, average pooling, fully connected layers.

Paper: 3D Convolutional with Attention for Action Recognition (Shrestha, Dubey et al.), section 2 and figure 1.
It states 64 channels, ReLU, element-wise sigmoid gating, 3-D average pooling, ReLU layers with dropout 0.25 and
16 frames of 112x112. What it leaves open, and what is chosen here: docs/models.md.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgeact.export.models.attention.base import AttentionBuilder, Site
from edgeact.export.models.layers import conv_bn
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.part_options import PartOptions

__all__ = ["Cnn3d", "cnn3d"]

_KERNEL = (3, 7, 7)
_STRIDE = (1, 2, 2)
_GRID = (4, 4, 4)
_HIDDEN_PER_CHANNEL = 8
_DROPOUT = 0.25


class Cnn3d(nn.Module):
    """One Conv3d with batch norm and ReLU, attention, average pooling to a grid, two fully connected layers."""

    def __init__(self, config: NetworkConfig, attention: AttentionBuilder) -> None:
        super().__init__()
        width, hidden = config.width, config.width * _HIDDEN_PER_CHANNEL
        extent = (config.clip_frames, *((edge + 1) // 2 for edge in config.size))
        pool = [max(edge // cells, 1) for edge, cells in zip(extent, _GRID, strict=True)]
        grid = [edge // step for edge, step in zip(extent, pool, strict=True)]
        self.conv = conv_bn(3, width, _KERNEL, _STRIDE)
        self.gate = attention(Site(width, extent[0], (extent[1], extent[2]), 1)) or nn.Identity()
        self.pool = nn.AvgPool3d((pool[0], pool[1], pool[2]))
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(width * grid[0] * grid[1] * grid[2], hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(_DROPOUT),
            nn.Linear(hidden, config.class_count),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 `(N, 3, T, H, W)` to logits `(N, class_count)`."""
        logits: Tensor = self.head(self.pool(self.gate(self.conv(x))))
        return logits


def cnn3d(config: NetworkConfig, options: PartOptions, attention: AttentionBuilder) -> nn.Module:
    """Build the paper's network, of one stage."""
    return Cnn3d(config, attention)
