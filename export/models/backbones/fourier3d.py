"""3DRFNet: 3-D ResNets with Fast Fourier Convolution and channel and spatial attention inside their blocks.

Papers: Action Recognition with 3D Residual Attention and Cross Entropy (Ouyang and Li, Entropy 2025), of which only the
abstract is at hand, and Fast Fourier Convolution (Chi, Jiang and Mu, NeurIPS 2020, section 3 and their public code).
What the abstract leaves open, and what is chosen here: docs/models.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from edgeact.export.models.attention.base import AttentionBuilder
from edgeact.export.models.attention.cbam import Cbam
from edgeact.export.models.backbones.residual import BasicBlock, Block, Bottleneck
from edgeact.export.models.backbones.resnet3d import ResNet3d
from edgeact.export.models.layers import conv_bn
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.part_options import PartOptions
from edgeact.export.models.pruning.plan import KeptChannels

__all__ = ["FastFourierConv", "FourierOptions", "FourierUnit", "SpectralTransform", "rfnet3d_18", "rfnet3d_50"]

_BOTTLENECK_EXPANSION = 4
_LAST_STAGE = 8  # times the channels of the first


class FourierUnit(nn.Module):
    """A 1x1x1 convolution of every frame's spectrum, so that each value sees its whole frame (FFC, section 3.3).

    Real and imaginary parts are channels. Computed in float32 under autocast too: the transform takes no bfloat16, and
    the frame's mean stands out of its spectrum so far that eight bits of it drown the rest.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv_bn(2 * channels, 2 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, C, T, H, W)` to the same shape, float32."""
        if x.dtype.itemsize >= torch.float32.itemsize:
            return self._transformed(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._transformed(x.float())

    def _transformed(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x, norm="ortho")
        real, imag = self.conv(torch.cat([spectrum.real, spectrum.imag], dim=1)).chunk(2, dim=1)
        y: Tensor = torch.fft.irfft2(torch.complex(real, imag), s=x.shape[-2:], norm="ortho")
        return y

    def trace_channels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Couple the real and the imaginary part of each channel with that channel of the output (`Prunable`)."""
        parts = self.conv(torch.cat([x * 1, x * 1], dim=1))
        real, imag = torch.split(parts, [x.shape[1], x.shape[1]], dim=1)
        return (real * imag,)

    def remove_channels(self, kept: KeptChannels) -> None:
        """Change nothing: all parameters are those of a convolution and a batch norm."""


class SpectralTransform(nn.Module):
    """The spectral branch: down to half the channels, a Fourier unit beside a shortcut, up again (FFC, figure 2).

    A stride of 2 pools by the mean, rounding sizes up as a 3x3x3 convolution does. There is no local Fourier unit.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = max(outputs // 2, 1)
        self.stride = stride
        self.down = conv_bn(inputs, hidden, 1)
        self.unit = FourierUnit(hidden)
        self.up = conv_bn(hidden, outputs, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, T, H, W)` to `(N, outputs, T / stride, H / stride, W / stride)`."""
        if self.stride > 1:
            kernel = [min(self.stride, edge) for edge in x.shape[2:]]  # OpenVINO and TensorRT refuse larger ones
            x = functional.avg_pool3d(x, kernel, ceil_mode=True)
        x = self.down(x)
        y: Tensor = self.up(x + self.unit(x))
        return y


class FastFourierConv(nn.Module):
    """A 3x3x3 convolution whose last channels, the global ones, see whole frames (FFC, section 3.2, eq. 1 and 2).

    local  = conv(local in) + conv(global in), as one convolution of both
    global = conv(local in) + spectral transform(global in)
    """

    def __init__(self, inputs: int, outputs: int, stride: int, ratio: float) -> None:
        super().__init__()
        global_in, global_out = (max(int(channels * ratio), 1) for channels in (inputs, outputs))
        self.to_local = conv_bn(inputs, outputs - global_out, 3, stride, relu=False)
        self.to_global = conv_bn(inputs - global_in, global_out, 3, stride, relu=False)
        self.spectral = SpectralTransform(global_in, global_out, stride)

    @property
    def split(self) -> list[int]:
        """Numbers of local and global input channels, read from the convolutions, which pruning may cut."""
        return [cast(nn.Conv3d, layers[0]).in_channels for layers in (self.to_global, self.spectral.down)]

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, T, H, W)` to `(N, outputs, T / stride, H / stride, W / stride)`, global channels last."""
        near, far = torch.split(x, self.split, dim=1)
        return torch.cat([self.to_local(x), self.to_global(near) + self.spectral(far)], dim=1)


class FourierOptions(PartOptions):
    """Options of 3DRFNet: each of the paper's two ideas can be left out for comparison."""

    ffc: bool = True
    """Fast Fourier Convolution for the 3x3x3 convolutions of all stages but the last."""
    ratio: float = Field(0.5, ge=0.1, le=0.9)
    """Share of global channels."""
    inner: bool = True
    """Channel, then spatial attention (CBAM) at the end of every block's residual branch."""


@dataclass(frozen=True)
class _Blocks:
    """Builds the blocks of a 3-D ResNet, with Fourier convolutions and attention inside."""

    plain: Block
    options: FourierOptions
    last_outputs: int
    """Channels of the last stage, which has no Fourier convolution, as in FFC's networks: pooling to a mean follows."""

    def __call__(self, inputs: int, outputs: int, stride: int) -> nn.Module:
        """Build a block."""
        block = self.plain(inputs, outputs, stride)
        branch = [cast(nn.Sequential, layers) for name, layers in block.named_children() if name.startswith("conv")]
        if self.options.ffc and outputs < self.last_outputs:
            for layers in branch:
                _put_fourier_in(layers, self.options.ratio)
        if self.options.inner:
            branch[-1].append(Cbam(outputs))
        return block


def _put_fourier_in(layers: nn.Sequential, ratio: float) -> None:
    """Replace a 3x3x3 convolution and its batch norm by a Fourier convolution."""
    conv = layers[0]
    if isinstance(conv, nn.Conv3d) and conv.kernel_size == (3, 3, 3):
        layers[0] = FastFourierConv(conv.in_channels, conv.out_channels, conv.stride[0], ratio)
        del layers[1]


def rfnet3d_18(config: NetworkConfig, options: FourierOptions, attention: AttentionBuilder) -> nn.Module:
    """Build 3DRFNet of depth 18."""
    block = _Blocks(BasicBlock, options, config.width * _LAST_STAGE)
    return ResNet3d(config, block, (2, 2, 2, 2), 1, attention)


def rfnet3d_50(config: NetworkConfig, options: FourierOptions, attention: AttentionBuilder) -> nn.Module:
    """Build 3DRFNet of depth 50."""
    expansion = _BOTTLENECK_EXPANSION
    block = _Blocks(Bottleneck(expansion), options, config.width * _LAST_STAGE * expansion)
    return ResNet3d(config, block, (3, 4, 6, 3), expansion, attention)
