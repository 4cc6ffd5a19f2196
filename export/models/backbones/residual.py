"""Residual networks: blocks, the first of a stage halving, and stages followed by attention.

Every block is built from `(inputs, outputs, stride)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgeact.export.models.attention.base import AttentionBuilder, Site
from edgeact.export.models.layers import conv_bn

__all__ = ["BasicBlock", "Block", "Bottleneck", "Extent", "halved", "residual_stages"]

Block = Callable[[int, int, int], nn.Module]
Extent = tuple[int, int, int]
"""T, H and W of an activation."""


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return the identity if the shapes agree, else a strided projection (He et al.'s type B)."""
    same = stride == 1 and inputs == outputs
    return nn.Identity() if same else conv_bn(inputs, outputs, 1, stride, relu=False)


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv_bn(inputs, outputs, stride=stride)
        self.conv2 = conv_bn(outputs, outputs, relu=False)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, T, H, W)` to `(N, outputs, T / stride, H / stride, W / stride)`."""
        return torch.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


@dataclass(frozen=True)
class Bottleneck:
    """Builds bottleneck blocks: 1x1x1 down, 3x3x3 in groups, 1x1x1 up, and a shortcut."""

    expansion: int
    """Outputs per channel of the bottleneck: 4 in ResNet, 2 in ResNeXt."""
    groups: int = 1

    def __call__(self, inputs: int, outputs: int, stride: int) -> nn.Module:
        """Build a block; `outputs` is a multiple of `expansion * groups`."""
        return _BottleneckBlock(inputs, outputs, stride, self)


class _BottleneckBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, shape: Bottleneck) -> None:
        super().__init__()
        middle = outputs // shape.expansion
        self.conv1 = conv_bn(inputs, middle, 1)
        self.conv2 = conv_bn(middle, middle, 3, stride, groups=shape.groups)
        self.conv3 = conv_bn(middle, outputs, 1, relu=False)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, T, H, W)` to `(N, outputs, T / stride, H / stride, W / stride)`."""
        return torch.relu(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x))


def residual_stages(
    inputs: int,
    outputs: Sequence[int],
    depths: Sequence[int],
    block: Block,
    extent: Extent,
    attention: AttentionBuilder,
) -> nn.Sequential:
    """Build a stage of `depths[i]` blocks to `outputs[i]` channels, followed by attention; all but the first halve.

    `extent` is that of the first stage's input.
    """
    stages, channels = [], inputs
    for index, (width, depth) in enumerate(zip(outputs, depths, strict=True)):
        stride = 2 if index else 1
        extent = halved(extent) if index else extent
        layers = [block(channels, width, stride), *(block(width, width, 1) for _ in range(depth - 1))]
        if module := attention(Site(width, extent[0], extent[1:], index + 1)):
            layers.append(module)
        stages.append(nn.Sequential(*layers))
        channels = width
    return nn.Sequential(*stages)


def halved(extent: Extent) -> Extent:
    """Return the extent behind a 3x3x3 convolution or pooling of stride 2 and padding 1."""
    return (extent[0] + 1) // 2, (extent[1] + 1) // 2, (extent[2] + 1) // 2
