"""The interface of an attention module: its weights, how pruning traces and cuts it, and what a picture shows of it.

An attention is added in a file of its own and a row of `ATTENTIONS`; pruning, pictures and reports find its modules by
the methods of `AttentionModule`. A subclass of `Gate` answers all of them once it defines `weights`:

* `trace_channels` shows the dependency graph `forward` itself. That is right for convolutions, linear layers, means
  over T, H and W, and elementwise operators. Anything else (a maximum or mean over channels, matrix products) would
  keep its input's channels from being pruned: override the method then;
* `remove_channels` changes nothing. Override the method if weights outside of convolutions, linear layers and batch
  norms belong to channels, or if weights depend on how many channels there are;
* `view` shows the weights by the axes along which they differ. Override `title`, or the method, to show more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from edgeact.export.models.layers import spatial_mean
from edgeact.export.models.pruning.plan import KeptChannels
from edgeact.export.models.pruning.prunable import Prunable

__all__ = [
    "Along",
    "AttentionBuilder",
    "AttentionModule",
    "AttentionView",
    "Frequency",
    "Gate",
    "Site",
    "axes_but",
    "no_attention",
    "weigh_channels",
]

Along = Literal["channels", "frames"]
"""The axis along which a gate has one weight per entry."""

_TITLES = {
    (True, False, False): "channel attention",
    (False, True, False): "frame attention",
    (False, False, True): "space-time attention",
    (False, True, True): "space-time attention",
    (True, True, True): "gate of every value",
}
"""By whether weights differ along channels, frames and positions."""


@dataclass(frozen=True)
class Site:
    """The activation an attention module is built for: `(N, channels, frames, *size)` after stage `stage`."""

    channels: int
    frames: int
    size: tuple[int, int]
    """(height, width)."""
    stage: int
    """Counted from 1; the last is the deepest."""


AttentionBuilder = Callable[[Site], nn.Module | None]
"""Builds the module for a site; returns None if the site has no attention."""


def no_attention(site: Site) -> nn.Module | None:
    """Build no module: the backbone alone."""
    return None


@dataclass(frozen=True)
class Frequency:
    """The mean weight of the channels that share a 2-D DCT frequency."""

    row: int
    """Half waves along H."""
    column: int
    """Half waves along W."""
    channels: int
    weight: float


@dataclass(frozen=True, eq=False)
class AttentionView:
    """What a picture shows of one module on one clip; None for an axis along which all weights are equal.

    Each tensor is the mean of the weights over all other axes.
    """

    title: str
    channels: Tensor | None = None
    """`(C,)`."""
    frames: Tensor | None = None
    """`(T,)`."""
    positions: Tensor | None = None
    """`(T, H, W)`."""
    positions_unit: str = "by position"
    """The unit of `positions`, as the picture's caption."""
    frequencies: tuple[Frequency, ...] = ()


@runtime_checkable
class AttentionModule(Prunable, Protocol):
    """A module that weighs an activation `(N, C, T, H, W)`."""

    def weights(self, x: Tensor) -> Tensor:
        """Compute the attention weights of `x`."""

    def view(self, x: Tensor) -> AttentionView:
        """Compute what to show of the weights of one activation `x` of `(1, C, T, H, W)`."""


class Gate(nn.Module):
    """An `AttentionModule` that multiplies `(N, C, T, H, W)` by weights computed from it."""

    title: str | None = None
    """The module's kind in pictures; None: named by the axes along which its weights differ."""

    def weights(self, x: Tensor) -> Tensor:
        """Compute weights in (0, 1), of 5 axes; an axis of length 1 means that all entries along it share a weight."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted activation, same shape."""
        return x * self.weights(x)

    def trace_channels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return `forward(x)`."""
        return (self.forward(x),)

    def remove_channels(self, kept: KeptChannels) -> None:
        """Change nothing."""

    def view(self, x: Tensor) -> AttentionView:
        """Return the mean weight of every channel, frame and position that differs from others."""
        weights = self.weights(x)[0]
        differs = (weights.shape[0] > 1, weights.shape[1] > 1, weights.shape[2] * weights.shape[3] > 1)
        return AttentionView(
            title=self.title or _TITLES.get(differs, "attention"),
            channels=weights.mean(dim=(1, 2, 3)) if differs[0] else None,
            frames=weights.mean(dim=(0, 2, 3)) if differs[1] else None,
            positions=weights.mean(dim=0) if differs[2] else None,
        )


def weigh_channels(x: Tensor, mlp: nn.Module) -> Tensor:
    """Multiply `(N, C, T, H, W)` by what `mlp` makes of the channels' means, `(N, C)` -> `(N, C)`."""
    weights: Tensor = mlp(spatial_mean(x))
    return x * weights[:, :, None, None, None]


def axes_but(along: Along) -> tuple[int, ...]:
    """Return the axes of `(N, C, T, H, W)` that a gate along channels or frames pools over."""
    return (2, 3, 4) if along == "channels" else (1, 3, 4)
