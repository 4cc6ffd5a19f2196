"""FAM and SAM, the frequency channel and spatio-temporal attention of MSF-R3D+FSAM (section 3.2)."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeact.errors import UsageError
from edgeact.export.models.attention.base import Gate, Site
from edgeact.export.models.choices import AttentionChoices, Stages
from edgeact.export.models.layers import channel_mlp

__all__ = ["Fam", "Fsam", "FsamChoices", "Sam", "dct_basis", "fsam"]

# FcaNet's (arXiv 2012.11879, section 4.1) sixteen best 2-D DCT frequencies, (row, column) on a 7x7 grid, best first.
_FREQUENCIES = (
    (0, 0), (0, 1), (6, 0), (0, 5), (0, 2), (1, 0), (1, 2), (4, 0),
    (5, 0), (1, 6), (3, 0), (0, 4), (0, 6), (0, 3), (3, 5), (2, 2),
)  # fmt: skip
_GRID = 7


def dct_basis(channels: int, size: tuple[int, int], parts: int) -> Tensor:
    """The 2-D DCT-II basis image of every channel, float32 `(channels, H, W)`.

    The channels are cut into `parts` equal parts, each with one frequency (FcaNet eq. 6; the MSF paper's eq. 5).
    A frequency is given on a 7x7 grid and scaled to the map's size; on maps smaller than the grid it is clipped.
    """
    height, width = size
    images = []
    for row, column in _FREQUENCIES[:parts]:
        u = min(row * max(height // _GRID, 1), height - 1)
        v = min(column * max(width // _GRID, 1), width - 1)
        images.append(_cosine(u, height)[:, None] * _cosine(v, width)[None, :])
    return torch.stack(images).repeat_interleave(channels // parts, dim=0)


def _cosine(frequency: int, length: int) -> Tensor:
    positions = torch.arange(length, dtype=torch.float64) + 0.5
    wave = torch.cos(math.pi * frequency * positions / length) / math.sqrt(length)
    return (wave * math.sqrt(2) if frequency else wave).float()


class Fam(Gate):
    """Frequency channel attention: one DCT coefficient a channel, averaged over T, through a bottleneck.

    Paper: MSF-R3D+FSAM, section 3.2, eq. 5 and 6. `parts` is not stated there; 16 is FcaNet's best setting.
    """

    basis: Tensor

    def __init__(self, channels: int, size: tuple[int, int], *, parts: int = 16, reduction: int = 16) -> None:
        super().__init__()
        if parts > len(_FREQUENCIES) or channels % parts:
            parts = math.gcd(channels, len(_FREQUENCIES))
        self.register_buffer("basis", dct_basis(channels, size, parts), persistent=False)
        self.fc = nn.Sequential(*channel_mlp(channels, reduction), nn.Sigmoid())

    def weights(self, x: Tensor) -> Tensor:
        """One a channel, `(N, C, 1, 1, 1)`; the map's H and W must be those the basis was made for."""
        if x.shape[-2:] != self.basis.shape[-2:]:
            raise UsageError(
                f"this attention was built for maps of {tuple(self.basis.shape[-2:])}, got {tuple(x.shape[-2:])}; "
                "build the model for the clip size it is fed with"
            )
        frequencies = (x.mean(dim=2) * self.basis).sum(dim=(2, 3))
        weights: Tensor = self.fc(frequencies)
        return weights[:, :, None, None, None]


class Sam(Gate):
    """Spatio-temporal attention: channel-wise max and mean, one 7x7x7 convolution, sigmoid.

    Paper: MSF-R3D+FSAM, section 3.2, eq. 7.
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 1, kernel, padding=kernel // 2, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """One a position in time and space, `(N, 1, T, H, W)`."""
        pooled = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(pooled))


class Fsam(nn.Sequential):
    """FAM, then SAM (MSF-R3D+FSAM, section 3.2, eq. 8)."""

    def __init__(self, channels: int, size: tuple[int, int], *, parts: int = 16) -> None:
        super().__init__(Fam(channels, size, parts=parts), Sam())


class FsamChoices(AttentionChoices):
    """Options of FSAM."""

    stages: Stages = (3, 4)
    parts: int = Field(16, ge=1, le=len(_FREQUENCIES))
    """Into how many parts FAM cuts the channels, each with a frequency of its own."""


def fsam(site: Site, choices: FsamChoices) -> nn.Module:
    """FSAM for a site."""
    return Fsam(site.channels, site.size, parts=choices.parts)
