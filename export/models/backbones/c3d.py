"""C3D and MSF-C3D: eight 3x3x3 convolutions, five poolings, two wide hidden layers.

Papers: Learning Spatiotemporal Features with 3D Convolutional Networks (Tran et al. 2015), section 3.3 and figure 3;
Multilevel Spatiotemporal Feature Fusion with FSAM ("MSF-R3D"), section 4.4, which puts MSF modules into it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from edgeact.export.models.attention.base import AttentionBuilder, Site
from edgeact.export.models.backbones.msf import MsfBlock, MsfOptions
from edgeact.export.models.layers import HalvingMaxPool
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.part_options import PartOptions

__all__ = ["C3d", "c3d", "msf_c3d"]

_HIDDEN_PER_CHANNEL = 64  # 4096 units at the published width
_DROPOUT = 0.5

Pair = Callable[[int, int], nn.Module]
"""Builds the body of a stage of two convolutions, from input and output channels."""


class _FirstPool(nn.Module):
    """C3D's first pooling, which does not pool frames, "not to merge the temporal signal too early"."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool3d(x, (1, 2, 2), ceil_mode=True)


class C3d(nn.Module):
    """Five stages of convolutions, each followed by attention and pooling, two hidden layers, classifier.

    The poolings round up, as those of the original's framework did: 7x7 maps become 4x4, and 16x112x112 leaves 1x4x4
    for the hidden layers, the published 8192 values. An axis of size 1 is not pooled further, so short and small
    clips work; longer and larger ones leave a larger grid and get a wider first hidden layer.
    """

    def __init__(self, config: NetworkConfig, pair: Pair, attention: AttentionBuilder) -> None:
        super().__init__()
        width = config.width
        channels = (3, width, 2 * width, 4 * width, 8 * width, 8 * width)
        bodies = (_conv, _conv, pair, pair, pair)
        extent = (config.clip_frames, *config.size)
        stages = []
        for index, body in enumerate(bodies):
            layers: list[nn.Module] = []
            if index:
                layers.append(_FirstPool() if index == 1 else HalvingMaxPool())
                extent = _pooled(extent, time=index > 1)
            layers.append(body(channels[index], channels[index + 1]))
            if module := attention(Site(channels[index + 1], extent[0], (extent[1], extent[2]), index + 1)):
                layers.append(module)
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.pool = HalvingMaxPool()
        hidden = _HIDDEN_PER_CHANNEL * width
        self.hidden = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels[-1] * math.prod(_pooled(extent, time=True)), hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(_DROPOUT),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(_DROPOUT),
        )
        self.classifier = nn.Linear(hidden, config.class_count)
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 `(N, 3, T, H, W)` to logits `(N, class_count)`."""
        logits: Tensor = self.classifier(self.hidden(self.pool(self.stages(x))))
        return logits


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    """Return a convolution and ReLU without batch norm, as in the original."""
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True))


def _pooled(extent: tuple[int, int, int], *, time: bool) -> tuple[int, int, int]:
    frames, height, width = extent
    return (frames + 1) // 2 if time else frames, (height + 1) // 2, (width + 1) // 2


def _initialize(module: C3d) -> None:
    """Initialize Kaiming-normal by fan-in: without batch norm the layers must keep the scale of their inputs."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv3d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    nn.init.normal_(module.classifier.weight, 0.0, 0.01)


def c3d(config: NetworkConfig, options: PartOptions, attention: AttentionBuilder) -> nn.Module:
    """Build C3D (Tran et al. 2015), the MSF paper's second baseline."""
    return C3d(
        config, lambda inputs, outputs: nn.Sequential(_conv(inputs, outputs), _conv(outputs, outputs)), attention
    )


def msf_c3d(config: NetworkConfig, options: MsfOptions, attention: AttentionBuilder) -> nn.Module:
    """Build C3D with an MSF module for each of its three pairs of convolutions, "the two cascades" (section 4.4).

    All three shortcuts project, the last too, whose channels do not change: only so are the parameters 69.20 M.
    """
    return C3d(config, lambda inputs, outputs: MsfBlock(inputs, outputs, 1, options, project=True), attention)
