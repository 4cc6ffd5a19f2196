"""What a user's own package may hold: good factories and bad ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Tiny", "dictionary", "nothing", "number", "raising", "three_maps", "tiny", "with_argument"]

number = 3


class Tiny(nn.Module):
    """A user's module: any clip in, logits of four classes out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, T, H, W)` -> `(N, 4)`."""
        return torch.relu(self.conv(x)).mean(dim=(2, 3, 4))


def tiny() -> nn.Module:
    """The module with weights of a fixed seed, in training mode as modules are born."""
    torch.manual_seed(7)
    return Tiny()


def nothing() -> None:
    """Forgets to return."""


def raising() -> nn.Module:
    """Has a bug whose exception says nothing."""
    raise KeyError


def with_argument(width: int) -> nn.Module:
    """Cannot be called without arguments."""
    return nn.Conv3d(3, width, 1)


class _Dictionary(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": x}


def dictionary() -> nn.Module:
    """Returns a dictionary instead of logits."""
    return _Dictionary()


def three_maps() -> nn.Module:
    """Takes the clip but returns maps instead of logits."""
    return nn.Conv3d(3, 4, 1)
