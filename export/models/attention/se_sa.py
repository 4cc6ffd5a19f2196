"""SE+SA: squeeze-and-excitation of channels and of frames, then self-attention within every frame.

Paper: "Action Recognition Using Deep 3D CNNs with Sequential Feature Aggregation and Attention", section 3.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from edgeact.export.models.attention.base import AttentionView, Site
from edgeact.export.models.attention.se import SqueezeExcitation
from edgeact.export.models.layers import SelfInitialized
from edgeact.export.models.part_options import AttentionOptions, Stages
from edgeact.export.models.pruning.plan import KeptChannels

__all__ = ["ChannelFrameExcitation", "SeSaOptions", "SelfAttention", "se_sa"]

_PER_QUERY = 8
_GAMMA = 0.1


class ChannelFrameExcitation(SelfInitialized):
    """X + SE of frames(SE of channels(X)): equations 1 to 6 and the sum that ends section 3.1.

    The paper's transpositions only bring frames where its SE expects channels, and back; here SE pools over the axes
    it needs.
    """

    def __init__(self, channels: int, frames: int, reduction: int = 16, frame_reduction: int = 2) -> None:
        super().__init__()
        self.channels = SqueezeExcitation(channels, reduction)
        self.frames = SqueezeExcitation(frames, frame_reduction, "frames")
        self.initialize_parameters()

    @torch.no_grad()
    def initialize_parameters(self) -> None:
        """Keep one unit of every bottleneck active: means behind ReLU are never negative, so positive weights suffice.

        The last stage of a 16-frame clip has one frame, and a bottleneck of one unit would start dead every other time.
        """
        for gate in (self.channels, self.frames):
            gate.get_parameter("fc.0.weight")[0].abs_()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation plus the weighted activation, `(N, C, T, H, W)`."""
        weighed: Tensor = self.frames(self.channels(x))
        return x + weighed


class SelfAttention(SelfInitialized):
    """x + gamma o, with o at a position the weighted sum of h over all positions of its frame (section 3.2, fig. 4).

    f, g and h are 1x1x1 convolutions; the form is SAGAN's (Zhang et al. 2019, section 3), the source of that figure,
    with its eighth of the channels in f and g.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        queried = max(channels // _PER_QUERY, 1)
        self.f = nn.Conv3d(channels, queried, 1, bias=False)
        self.g = nn.Conv3d(channels, queried, 1, bias=False)
        self.h = nn.Conv3d(channels, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.empty(()))
        self.initialize_parameters()

    def initialize_parameters(self) -> None:
        """Initialize as PyTorch does, with a gamma above 0.

        Kaiming-normal by outputs, as in the backbones, makes f and g so large that every position at first attends to
        a single other one. SAGAN's gamma of 0 would keep all gradients from f, g and h, and hide the module from every
        check of an untrained network.
        """
        for layer in (self.f, self.g, self.h):
            layer.reset_parameters()
        nn.init.constant_(self.gamma, _GAMMA)

    def weights(self, x: Tensor) -> Tensor:
        """Return how much each position attends to each other of its frame: `(N, T, H*W, H*W)`, rows sum to 1."""
        keys, queries = _positions(self.f(x)), _positions(self.g(x))
        return torch.softmax(queries @ keys.transpose(2, 3), dim=3)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(N, C, T, H, W)`; frames are independent of each other."""
        seen = self.weights(x) @ _positions(self.h(x))
        return x + self.gamma * seen.permute(0, 3, 1, 2).reshape(x.shape)

    def trace_channels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Couple h's channels with those of `x`, and f's with g's: the matrix product sums over them."""
        return x + self.h(x), self.f(x) * self.g(x)

    def remove_channels(self, kept: KeptChannels) -> None:
        """Change nothing: f, g and h are convolutions."""

    def view(self, x: Tensor) -> AttentionView:
        """Return how much each position is attended to by its frame, where 1 is the frame's mean."""
        weights = self.weights(x)[0]
        attended = weights.mean(dim=1) * weights.shape[2]
        positions = attended.reshape(-1, *x.shape[3:])
        return AttentionView("self-attention", positions=positions, positions_unit="1 = frame's mean")


def _positions(x: Tensor) -> Tensor:
    """Reorder `(N, C, T, H, W)` to `(N, T, H*W, C)`."""
    return x.flatten(3).permute(0, 2, 3, 1)


class SeSaOptions(AttentionOptions):
    """Options of SE+SA."""

    modules: Literal["se-sa", "se", "sa"] = "se-sa"
    """SE, then SA (the paper's best model), or one alone."""
    sa_stages: Stages = ()
    """Stages after which self-attention follows SE; none named means all (the paper's *)."""
    reduction: Annotated[int, Field(ge=1)] = 16
    """Channels per unit of the bottleneck, the paper's r."""
    frame_reduction: Annotated[int, Field(ge=1)] = 2
    """Frames per unit of the bottleneck, the paper's d."""

    @model_validator(mode="after")
    def _check_stages(self) -> SeSaOptions:
        if self.sa_stages and self.modules != "se-sa":
            raise ValueError("sa_stages needs modules=se-sa; name the stages of a single module by stages")
        if self.stages and not set(self.sa_stages) <= set(self.stages):
            raise ValueError("sa_stages must be among stages")
        return self


def se_sa(site: Site, options: SeSaOptions) -> nn.Module:
    """Build SE+SA for a site, or the one module that `options` name."""
    parts: list[nn.Module] = []
    if "se" in options.modules:
        parts.append(ChannelFrameExcitation(site.channels, site.frames, options.reduction, options.frame_reduction))
    if "sa" in options.modules and (not options.sa_stages or site.stage in options.sa_stages):
        parts.append(SelfAttention(site.channels))
    return nn.Sequential(*parts)
