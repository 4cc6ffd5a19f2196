"""The 3-D ResNets and ResNeXt of "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?".

Hara, Kataoka and Satoh, CVPR 2018, table 1 and figure 3, in the form of their public code (3D-ResNets-PyTorch) with
projection shortcuts (type B); the backbones of "An Efficient Attention Module for 3D CNNs in Action Recognition".
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgeact.export.models.attention.base import AttentionBuilder
from edgeact.export.models.backbones.residual import BasicBlock, Block, Bottleneck, halved, residual_stages
from edgeact.export.models.layers import conv_bn, initialize, spatial_mean
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.part_options import PartOptions

__all__ = ["ResNet3d", "resnet3d_18", "resnet3d_50", "resnext3d_101"]

_BOTTLENECK_EXPANSION = 4
_RESNEXT_EXPANSION = 2
_RESNEXT_GROUPS = 32
_PAPER_WIDTH = 64


class ResNet3d(nn.Module):
    """Stem, max pooling, four stages of blocks, each followed by attention, mean pooling, classifier.

    The stem halves H and W, the pooling T too: 16x112x112 comes to 8x28x28 before the first stage, 1x4x4 at the end.
    """

    def __init__(
        self, config: NetworkConfig, block: Block, depths: Sequence[int], expansion: int, attention: AttentionBuilder
    ) -> None:
        super().__init__()
        width = config.width
        self.stem = conv_bn(3, width, 7, (1, 2, 2))
        self.pool = nn.MaxPool3d(3, 2, 1)
        _, *stem = halved((1, *config.size))
        extent = halved((config.clip_frames, stem[0], stem[1]))
        outputs = [width * expansion << index for index in range(len(depths))]
        self.stages = residual_stages(width, outputs, depths, block, extent, attention)
        self.classifier = nn.Linear(outputs[-1], config.class_count)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 `(N, 3, T, H, W)` to logits `(N, class_count)`."""
        logits: Tensor = self.classifier(spatial_mean(self.stages(self.pool(self.stem(x)))))
        return logits


def resnet3d_18(config: NetworkConfig, options: PartOptions, attention: AttentionBuilder) -> nn.Module:
    """Build 3-D ResNet-18."""
    return ResNet3d(config, BasicBlock, (2, 2, 2, 2), 1, attention)


def resnet3d_50(config: NetworkConfig, options: PartOptions, attention: AttentionBuilder) -> nn.Module:
    """Build 3-D ResNet-50."""
    block = Bottleneck(_BOTTLENECK_EXPANSION)
    return ResNet3d(config, block, (3, 4, 6, 3), _BOTTLENECK_EXPANSION, attention)


def resnext3d_101(config: NetworkConfig, options: PartOptions, attention: AttentionBuilder) -> nn.Module:
    """Build 3-D ResNeXt-101: 32 groups at the paper's width.

    Groups scale with the width and keep 4 channels each in the first stage, 32 in the last.
    """
    block = Bottleneck(_RESNEXT_EXPANSION, _RESNEXT_GROUPS * config.width // _PAPER_WIDTH)
    return ResNet3d(config, block, (3, 4, 23, 3), _BOTTLENECK_EXPANSION, attention)
