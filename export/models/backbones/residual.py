"""Residual networks: blocks that halve at the first of a stage, and stages of blocks with attention behind each.

Every block is made from `(inputs, outputs, stride)`.
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
"""T, H and W of features."""


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Nothing where the shapes agree, else a strided projection (He et al.'s type B)."""
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
        """`(N, inputs, T, H, W)` -> `(N, outputs, T / stride, H / stride, W / stride)`."""
        return torch.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


@dataclass(frozen=True)
class Bottleneck:
    """Makes bottleneck blocks: 1x1x1 down, 3x3x3 in groups, 1x1x1 up, and a shortcut."""

    expansion: int
    """Outputs per channel of the bottleneck: 4 in ResNet, 2 in ResNeXt."""
    groups: int = 1

    def __call__(self, inputs: int, outputs: int, stride: int) -> nn.Module:
        """One block; `outputs` is a multiple of `expansion * groups`."""
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
        """`(N, inputs, T, H, W)` -> `(N, outputs, T / stride, H / stride, W / stride)`."""
        return torch.relu(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x))


def residual_stages(
    inputs: int,
    outputs: Sequence[int],
    depths: Sequence[int],
    block: Block,
    extent: Extent,
    attention: AttentionBuilder,
) -> nn.Sequential:
    """A stage of `depths[i]` blocks to `outputs[i]` channels each, attention after it; all but the first halve.

    `extent` is what goes into the first stage.
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
    """What a 3x3x3 convolution or pooling of stride 2 and padding 1 leaves."""
    return (extent[0] + 1) // 2, (extent[1] + 1) // 2, (extent[2] + 1) // 2
