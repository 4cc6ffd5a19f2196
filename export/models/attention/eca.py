"""ECA, efficient channel attention (Wang et al., CVPR 2020), and the local interaction that EAM shares with it."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from edgeact.export.models.attention.base import Along, Gate, Site, axes_but
from edgeact.export.models.part_options import AttentionOptions

__all__ = ["EcaOptions", "LocalGate", "OddKernel", "adaptive_kernel", "eca"]


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("expected an odd kernel size")
    return kernel


OddKernel = Annotated[int, Field(ge=1, le=63), AfterValidator(_odd)]
"""Odd size of a 1-D kernel."""


class LocalGate(Gate):
    """One weight per channel or frame, computed from its neighbors: pooling, one 1-D convolution, sigmoid."""

    def __init__(self, along: Along, kernel: int, *, peaks: bool) -> None:
        """Pool by the mean; if `peaks`, by the mean plus the maximum."""
        super().__init__()
        self.along = along
        self.title = f"{along.removesuffix('s')} attention"
        self.peaks = peaks
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """Return weights, `(N, C, 1, 1, 1)` along channels, `(N, 1, T, 1, 1)` along frames."""
        pooled = x.mean(dim=axes_but(self.along), keepdim=True)
        if self.peaks:
            pooled = pooled + x.amax(dim=axes_but(self.along), keepdim=True)
        weights = torch.sigmoid(self.conv(pooled.flatten(1).unsqueeze(1)))
        return weights.reshape(pooled.shape)

    def trace_channels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return `x`: the kernel slides over channels, so no parameter belongs to one."""
        return (x,)


def adaptive_kernel(channels: int) -> int:
    """Return ECA-Net's kernel size, equation 12 with gamma 2 and b 1: odd, growing with the logarithm of channels."""
    return int((math.log2(channels) + 1) / 2) | 1


class EcaOptions(AttentionOptions):
    """Options of ECA."""

    kernel: Literal["adaptive"] | OddKernel = "adaptive"
    """Kernel size over channels; adaptive: by ECA-Net's formula."""


def eca(site: Site, options: EcaOptions) -> nn.Module:
    """Build ECA for a site."""
    kernel = adaptive_kernel(site.channels) if options.kernel == "adaptive" else options.kernel
    return LocalGate("channels", kernel, peaks=False)
