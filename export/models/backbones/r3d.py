"""R3D-18 and its MSF variants: one backbone, its blocks and attention composed from outside.

Paper: Multilevel Spatiotemporal Feature Fusion with FSAM ("MSF-R3D"), section 3.3 and figure 7.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgeact.export.models.attention.base import AttentionBuilder
from edgeact.export.models.backbones.msf import MsfBlock, MsfOptions
from edgeact.export.models.backbones.residual import BasicBlock, Block, halved, residual_stages
from edgeact.export.models.layers import conv_bn, initialize, spatial_mean
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.part_options import PartOptions

__all__ = ["R3d", "msf_r3d", "r3d_18"]


class R3d(nn.Module):
    """The R3D-18 body: stem, four stages of two blocks, each followed by attention, mean pooling, classifier."""

    def __init__(self, config: NetworkConfig, block: Block, attention: AttentionBuilder) -> None:
        super().__init__()
        width = config.width
        self.stem = conv_bn(3, width, (3, 7, 7), (1, 2, 2))
        _, *stem = halved((1, *config.size))
        outputs = [width << index for index in range(4)]
        extent = (config.clip_frames, stem[0], stem[1])
        self.stages = residual_stages(width, outputs, (2, 2, 2, 2), block, extent, attention)
        self.classifier = nn.Linear(outputs[-1], config.class_count)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 `(N, 3, T, H, W)` to logits `(N, class_count)`."""
        logits: Tensor = self.classifier(spatial_mean(self.stages(self.stem(x))))
        return logits


def r3d_18(config: NetworkConfig, options: PartOptions, attention: AttentionBuilder) -> nn.Module:
    """Build R3D-18 (Tran et al. 2018), the paper's baseline."""
    return R3d(config, BasicBlock, attention)


def msf_r3d(config: NetworkConfig, options: MsfOptions, attention: AttentionBuilder) -> nn.Module:
    """Build R3D-18 with MSF modules."""
    return R3d(config, lambda inputs, outputs, stride: MsfBlock(inputs, outputs, stride, options), attention)
