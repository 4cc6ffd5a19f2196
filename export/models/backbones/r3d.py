"""R3D-18 and its MSF variants: one backbone, its blocks and attention composed from outside.

Paper: Multilevel Spatiotemporal Feature Fusion with FSAM ("MSF-R3D"), sections 3.1 to 3.3 and figures 2, 7.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeact.export.models.attention.base import Attention
from edgeact.export.models.backbones.residual import BasicBlock, Block, halved, residual_stages
from edgeact.export.models.choices import Choices
from edgeact.export.models.layers import conv_bn, initialize, spatial_mean
from edgeact.export.models.options import ModelOptions

__all__ = ["MsfBlock", "MultiLevelSplit", "R3d", "msf_r3d", "r3d_18"]


class MultiLevelSplit(nn.Module):
    """MSL: channel groups convolved in a cascade, each fed half of the one before (section 3.1, eq. 2 to 4).

    y1 = x1; y_i = conv(cat[x_i, second half of y_(i-1)]); the output is cat[x1, first halves, last y].
    The second half of y1 is not fed on: this reading gives the paper's parameter counts exactly.
    """

    def __init__(self, channels: int, groups: int = 4) -> None:
        super().__init__()
        sizes = [len(part) for part in torch.arange(channels).tensor_split(groups)]
        branches, carried = [], 0
        for size in sizes[1:]:
            width = size + carried
            branches.append(conv_bn(width, width))
            carried = width // 2
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        # Sizes come off the convolutions, not from the constructor: a pruned layer has other widths.
        convs = [layer for layer in self.branches.modules() if isinstance(layer, nn.Conv3d)]
        carries = [conv.out_channels // 2 for conv in convs[:-1]]
        sizes = [conv.in_channels - carry for conv, carry in zip(convs, [0, *carries], strict=True)]
        first, *pieces = torch.split(x, [x.shape[1] - sum(sizes), *sizes], dim=1)
        outputs, carried = [first], None
        for index, (branch, piece) in enumerate(zip(self.branches, pieces, strict=True)):
            y = branch(piece if carried is None else torch.cat([piece, carried], dim=1))
            if index < len(carries):
                kept, carried = torch.split(y, [y.shape[1] - carries[index], carries[index]], dim=1)
                outputs.append(kept)
            else:
                outputs.append(y)
        return torch.cat(outputs, dim=1)


class _HalvingMaxPool(nn.Module):
    """Max pooling that halves T, H and W, rounding up, in step with a 3x3x3 convolution of stride 2.

    An axis of one is left alone: OpenVINO and TensorRT refuse a kernel larger than its axis.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel = [min(2, edge) for edge in x.shape[2:]]
        return functional.max_pool3d(x, kernel, ceil_mode=True)


class MsfBlock(nn.Module):
    """Multilevel spatio-temporal feature fusion: ReLU(X + MSL(X) + shortcut), X = conv(input) (section 3.1, fig. 2).

    The shortcut shrinks by max pooling, which keeps more texture than a strided 1x1x1 convolution, then projects.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int = 4) -> None:
        super().__init__()
        self.conv = conv_bn(inputs, outputs, stride=stride)
        self.msl = MultiLevelSplit(outputs, groups)
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2:
            self.shortcut = nn.Sequential(_HalvingMaxPool(), conv_bn(inputs, outputs, 1, relu=False))
        elif inputs != outputs:
            self.shortcut = conv_bn(inputs, outputs, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, inputs, T, H, W)` -> `(N, outputs, T / stride, H / stride, W / stride)`."""
        y = self.conv(x)
        return torch.relu(y + self.msl(y) + self.shortcut(x))


class R3d(nn.Module):
    """The R3D-18 body: stem, four stages of two blocks with attention behind them, mean pooling, classifier."""

    def __init__(self, options: ModelOptions, block: Block, attention: Attention) -> None:
        super().__init__()
        width = options.width
        self.stem = conv_bn(3, width, (3, 7, 7), (1, 2, 2))
        _, *stem = halved((1, *options.size))
        outputs = [width << index for index in range(4)]
        extent = (options.clip_frames, stem[0], stem[1])
        self.stages = residual_stages(width, outputs, (2, 2, 2, 2), block, extent, attention)
        self.classifier = nn.Linear(outputs[-1], options.class_count)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """float32 `(N, 3, T, H, W)` -> logits `(N, class_count)`."""
        logits: Tensor = self.classifier(spatial_mean(self.stages(self.stem(x))))
        return logits


def r3d_18(options: ModelOptions, choices: Choices, attention: Attention) -> nn.Module:
    """R3D-18 (Tran et al. 2018), the paper's baseline."""
    return R3d(options, BasicBlock, attention)


def msf_r3d(options: ModelOptions, choices: Choices, attention: Attention) -> nn.Module:
    """R3D-18 with MSF modules."""
    return R3d(options, MsfBlock, attention)
