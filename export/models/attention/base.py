"""What all attention modules share: where one stands, and what it is to weigh features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

__all__ = ["Along", "AttentionBuilder", "Gate", "Site", "axes_but", "no_attention"]

Along = Literal["channels", "frames"]
"""What a gate with one weight for each of them weighs."""


@dataclass(frozen=True)
class Site:
    """The features an attention module is built for: `(N, channels, frames, *size)` after stage `stage`."""

    channels: int
    frames: int
    size: tuple[int, int]
    stage: int
    """Counted from 1; the last is the deepest."""


AttentionBuilder = Callable[[Site], nn.Module | None]
"""Makes the module for a site, or None where there is to be none."""


def no_attention(site: Site) -> nn.Module | None:
    """The backbone alone."""
    return None


class Gate(nn.Module):
    """Features times weights that are computed from them; `(N, C, T, H, W)` in and out.

    A subclass says in `weights` what it weighs. Whoever wants to look (pictures, ranges, pruning) finds every gate of
    a network as an instance of this class.
    """

    def weights(self, x: Tensor) -> Tensor:
        """Weights in (0, 1) of every feature, of 5 axes; an axis of 1 means that all along it share one weight."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """The weighed features, same shape."""
        return x * self.weights(x)


def axes_but(along: Along) -> tuple[int, ...]:
    """The axes of `(N, C, T, H, W)` that a gate along channels or frames pools over."""
    return (2, 3, 4) if along == "channels" else (1, 3, 4)
