"""FAM and SAM, the frequency channel and spatio-temporal attention of MSF-R3D+FSAM (section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeact.errors import ModelError, UsageError
from edgeact.export.models.attention.base import AttentionView, Frequency, Gate, Site, weigh_channels
from edgeact.export.models.layers import channel_mlp
from edgeact.export.models.part_options import AttentionOptions, Stages
from edgeact.export.models.pruning.plan import KeptChannels

__all__ = ["Fam", "Frequencies", "Fsam", "FsamOptions", "Sam", "dct_basis", "dct_pairs", "fsam"]

Frequencies = Literal["top", "low", "bot"]


def _pairs(text: str) -> tuple[tuple[int, int], ...]:
    return tuple((int(pair[0]), int(pair[1])) for pair in text.split())


# FcaNet's (arXiv 2012.11879, section 4.1, and its published code) 2-D DCT frequencies as row and column on a 7x7 grid:
# those that do best alone, best first; the lowest; those that do worst alone, worst first.
_FREQUENCIES: dict[Frequencies, tuple[tuple[int, int], ...]] = {
    "top": _pairs("00 01 60 05 02 10 12 40 50 16 30 04 06 03 35 22 46 63 33 53 55 21 61 52 54 32 31 41 23 20 65 13"),
    "low": _pairs("00 01 10 11 02 20 21 12 22 03 30 40 04 13 31 05 14 23 32 41 50 06 15 24 33 42 51 60 16 25 34 43"),
    "bot": _pairs("66 14 34 36 26 43 11 24 44 45 56 15 42 62 25 51 64 13 65 20 23 41 31 32 54 52 61 21 55 53 33 63"),
}
_MOST_PARTS = 32
_GRID = 7


def dct_basis(channels: int, size: tuple[int, int], parts: int, frequencies: Frequencies = "top") -> Tensor:
    """Return the 2-D DCT-II basis image of every channel, float32 `(channels, H, W)`.

    The channels are cut into `parts` equal parts, each with one of the first `parts` frequencies of the selection
    (FcaNet eq. 6; the MSF paper's eq. 5).
    A frequency is given on a 7x7 grid and scaled to the map's size; on maps smaller than the grid it is clipped.
    """
    height, width = size
    images = []
    for u, v in dct_pairs(size, parts, frequencies):
        images.append(_cosine(u, height)[:, None] * _cosine(v, width)[None, :])
    return torch.stack(images).repeat_interleave(channels // parts, dim=0)


def dct_pairs(size: tuple[int, int], parts: int, frequencies: Frequencies = "top") -> tuple[tuple[int, int], ...]:
    """Return the frequency of every part, in half waves along H and along W."""
    height, width = size
    return tuple(
        (min(row * max(height // _GRID, 1), height - 1), min(column * max(width // _GRID, 1), width - 1))
        for row, column in _FREQUENCIES[frequencies][:parts]
    )


def _cosine(frequency: int, length: int) -> Tensor:
    positions = torch.arange(length, dtype=torch.float64) + 0.5
    wave = torch.cos(math.pi * frequency * positions / length) / math.sqrt(length)
    return (wave * math.sqrt(2) if frequency else wave).float()


class Fam(Gate):
    """Frequency channel attention: one DCT coefficient per channel, averaged over T, through a bottleneck.

    Paper: MSF-R3D+FSAM, section 3.2, eq. 5 and 6. `parts` and `frequencies` are not stated there; the sixteen that do
    best alone are FcaNet's best setting. Channels that cannot be cut into `parts` get the most parts that divide both.
    """

    title = "frequency attention"
    basis: Tensor
    pairs: tuple[tuple[int, int], ...]
    """The frequency of each part of the channels, in half waves along H and along W."""

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        *,
        parts: int = 16,
        frequencies: Frequencies = "top",
        reduction: int = 16,
    ) -> None:
        super().__init__()
        parts = math.gcd(channels, parts)
        self.pairs = dct_pairs(size, parts, frequencies)
        self.register_buffer("basis", dct_basis(channels, size, parts, frequencies), persistent=False)
        self.fc = nn.Sequential(*channel_mlp(channels, reduction), nn.Sigmoid())

    def weights(self, x: Tensor) -> Tensor:
        """Return a weight per channel, `(N, C, 1, 1, 1)`; H and W must be those of the basis."""
        if x.shape[-2:] != self.basis.shape[-2:]:
            raise UsageError(
                f"frequency attention: expected maps of {tuple(self.basis.shape[-2:])}, got {tuple(x.shape[-2:])}; "
                "build the model for the clip size of its input"
            )
        frequencies = (x.mean(dim=2) * self.basis).sum(dim=(2, 3))
        weights: Tensor = self.fc(frequencies)
        return weights[:, :, None, None, None]

    def trace_channels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Couple the bottleneck with the channels by their means: a DCT coefficient is of one channel too."""
        return (weigh_channels(x, self.fc),)

    def remove_channels(self, kept: KeptChannels) -> None:
        """Drop the basis images of removed channels; from then on each channel has an entry in `pairs`."""
        if kept.before != len(self.basis):
            raise ModelError(
                f"the pruning plan is of another model: expected frequency attention of {kept.before} channels, got "
                f"{len(self.basis)}; give the model's name, width and clip size as they were when it was pruned"
            )
        per_frequency = len(self.basis) // len(self.pairs)
        self.pairs = tuple(self.pairs[channel // per_frequency] for channel in kept.indices)
        self.basis = self.basis[torch.tensor(kept.indices, device=self.basis.device)]

    def view(self, x: Tensor) -> AttentionView:
        """Return the channels' weights, and their mean by frequency."""
        view = super().view(x)
        return replace(view, frequencies=() if view.channels is None else tuple(self._by_frequency(view.channels)))

    def _by_frequency(self, weights: Tensor) -> Iterator[Frequency]:
        """Yield lowest frequencies first. On a small map several parts of the channels share a frequency."""
        parts = weights.reshape(len(self.pairs), -1)
        for pair in sorted(set(self.pairs), key=lambda pair: (sum(pair), pair)):
            shared = parts[[index for index, other in enumerate(self.pairs) if other == pair]]
            yield Frequency(*pair, channels=shared.numel(), weight=shared.mean().item())


class Sam(Gate):
    """Spatio-temporal attention: channel-wise max and mean, one 7x7x7 convolution, sigmoid.

    Paper: MSF-R3D+FSAM, section 3.2, eq. 7.
    """

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 1, kernel, padding=kernel // 2, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """Return a weight per position in time and space, `(N, 1, T, H, W)`."""
        pooled = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(pooled))

    def trace_channels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return `x`: no parameter belongs to a channel."""
        return (x,)

    def remove_channels(self, kept: KeptChannels) -> None:
        """Scale the kernel that reads the mean over channels by the share of kept ones (removed ones count as zero)."""
        self.conv.weight[:, 1] *= kept.share


class Fsam(nn.Sequential):
    """FAM, then SAM (MSF-R3D+FSAM, section 3.2, eq. 8)."""

    def __init__(
        self, channels: int, size: tuple[int, int], *, parts: int = 16, frequencies: Frequencies = "top"
    ) -> None:
        super().__init__(Fam(channels, size, parts=parts, frequencies=frequencies), Sam())


class FsamOptions(AttentionOptions):
    """Options of FSAM."""

    stages: Stages = (3, 4)
    parts: int = Field(16, ge=1, le=_MOST_PARTS)
    """Number of parts that FAM cuts the channels into, each with a frequency."""
    frequencies: Frequencies = "top"
    """DCT frequencies: the best single ones of FcaNet (top), the lowest (low), or the worst (bot)."""


def fsam(site: Site, options: FsamOptions) -> nn.Module:
    """Build FSAM for a site."""
    return Fsam(site.channels, site.size, parts=options.parts, frequencies=options.frequencies)
