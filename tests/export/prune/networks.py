"""Networks to prune: narrow registry models, and modules as users write them."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from edgeact.export.models.attention.registry import ATTENTIONS
from edgeact.export.models.registry import MODELS, find_model
from edgeact.export.models.spec import resized_clip
from edgeact.export.models.synthetic import calibrate_batch_norm

__all__ = [
    "CLIP",
    "FORMULAS",
    "MIXES_NEIGHBORING_CHANNELS",
    "WIDTH",
    "Careless",
    "Flattened",
    "Gated",
    "Hollow",
    "Mixed",
    "Padded",
    "Shuffled",
    "Stubborn",
    "Twice",
    "calibrated",
    "clips",
]

WIDTH = 8
CLIP = resized_clip(MODELS["msf-r3d"].clip, clip_frames=4, size=32)

FORMULAS = (
    *MODELS,
    *(f"resnet3d-18+{name}" for name in ATTENTIONS),
    *(f"msf-r3d+fsam?msl={msl}" for msl in "acd"),
    "msf-r3d?groups=3",
    "msf-r3d?groups=6",
    *(f"resnet3d-18+eam?order={order}" for order in ("ts", "s", "t", "parallel")),
    *(f"resnet3d-18+se-sa?modules={part}" for part in ("se", "sa")),
    "3drfnet-18?ratio=0.25",
    "3drfnet-18+fsam?ffc=0",
    "cnn3d+cbam",
)
"""Every registry model, every attention on a plain backbone, every structural variant."""

MIXES_NEIGHBORING_CHANNELS = ("eca", "eam")
"""Attention with a kernel over the channel axis, where removing a channel changes the neighbors of others."""


@functools.cache
def calibrated(formula: str, width: int = WIDTH) -> nn.Module:
    """Return the narrow model with batch norms calibrated; shared, so prune a copy."""
    torch.manual_seed(0)
    spec = find_model(formula)
    module = spec.build(spec.config(5, width=width, clip=CLIP)).eval()
    calibrate_batch_norm(module, CLIP)
    return module


def clips(count: int = 2) -> Tensor:
    """Return clips `(count, 3, 4, 32, 32)`."""
    return torch.randn(count, *CLIP.input_shape[1:], generator=torch.Generator().manual_seed(3))


class Mixed(nn.Module):
    """Splits of equal and unequal sizes, unused parts, grouped and depthwise convolutions, a bare scale parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm3d(16)
        self.grouped = nn.Conv3d(16, 24, 3, padding=1, groups=4)
        self.depthwise = nn.Conv3d(24, 24, 3, padding=1, groups=24)
        self.left, self.right = nn.Conv3d(24, 12, 1), nn.Conv3d(24, 10, 1)
        self.scaled = nn.Conv3d(22, 8, 1)
        self.scale = nn.Parameter(torch.rand(8, 1, 1, 1))
        self.normed = nn.Conv3d(8, 8, 1)
        self.layer_norm = nn.LayerNorm(8)
        self.hidden = nn.Linear(8, 32)
        self.head = nn.Linear(32, 4)
        self.never_called = nn.Conv3d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, T, H, W)` -> `(N, 4)`."""
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.depthwise(self.grouped(x)))
        x = self.scaled(torch.cat([self.left(x), torch.relu(self.right(x))], dim=1)) * self.scale
        x = self.layer_norm(self.normed(torch.relu(x)).mean(dim=(2, 3, 4)))
        logits: Tensor = self.head(torch.relu(self.hidden(x)))
        return logits


class Gated(nn.Module):
    """Multiplies all channels with a single-channel map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.map = nn.Conv3d(3, 8, 3), nn.Conv3d(8, 1, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, T, H, W)` -> `(N, 4)`."""
        x = torch.relu(self.conv(x))
        logits: Tensor = self.head((torch.sigmoid(self.map(x)) * x).mean(dim=(2, 3, 4)))
        return logits


class Shuffled(nn.Module):
    """Permutes channels by an operation that the dependency graph cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.next = nn.Conv3d(3, 8, 3), nn.Conv3d(8, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, T, H, W)` -> `(N, 4)`."""
        x = torch.relu(self.conv(x))
        x = x.reshape(len(x), 2, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        logits: Tensor = self.head(self.next(x).mean(dim=(2, 3, 4)))
        return logits


class Stubborn(nn.Module):
    """Has a hard-coded width, and reads tensor values, which the meta device lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(3, 8, 3, stride=4), nn.Conv3d(8, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, T, H, W)` -> `(N, 4)`."""
        x = torch.relu(self.first(x))
        if float(x.detach().sum()) < 0:
            raise ValueError("a sum of ReLUs")
        x = torch.relu(self.second(x)) * torch.arange(8.0).reshape(8, 1, 1, 1)
        logits: Tensor = self.head(x.mean(dim=(2, 3, 4)))
        return logits


class Careless(nn.Module):
    """Adds a branch to the input, and returns pooled activations instead of logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.same = nn.Conv3d(3, 6, 3, padding=1), nn.Conv3d(6, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, T, H, W)` -> `(N, 3)`."""
        return torch.relu(x + self.same(torch.relu(self.inner(x)))).mean(dim=(2, 3, 4))


class Hollow(nn.Module):
    """Splits off zero channels and concatenates the empty part."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv3d(3, 1, 3), nn.Conv3d(3, 8, 3), nn.Conv3d(8, 8, 3, padding=1)
        self.head = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, T, H, W)` -> `(N, 4)`."""
        kept, nothing = torch.split(torch.relu(self.first(x)), [1, 0], dim=1)
        x = torch.relu(self.third(torch.cat([torch.relu(self.second(x)), nothing], dim=1)))
        logits: Tensor = self.head(torch.cat([kept, x], dim=1).mean(dim=(2, 3, 4)))
        return logits


class Padded(nn.Module):
    """Concatenates its activation with a constant, which autograd does not record."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.next = nn.Conv3d(3, 8, 3), nn.Conv3d(10, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, T, H, W)` -> `(N, 4)`."""
        x = torch.relu(self.conv(x))
        x = self.next(torch.cat([x.new_zeros(len(x), 2, *x.shape[2:]), x], dim=1))
        logits: Tensor = self.head(x.mean(dim=(2, 3, 4)))
        return logits


class Twice(nn.Module):
    """A single layer reads both parts of a split."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.shared = nn.Conv3d(3, 8, 3), nn.Conv3d(4, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, T, H, W)` -> `(N, 4)`."""
        first, second = torch.split(torch.relu(self.conv(x)), [4, 4], dim=1)
        logits: Tensor = self.head((self.shared(first) + self.shared(second)).mean(dim=(2, 3, 4)))
        return logits


class Flattened(nn.Module):
    """A linear layer whose input features are positions and whose rows are channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 8, (3, 8, 8))
        self.rows, self.head = nn.Linear(2, 3), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, 4, 8, 8)` -> `(N, 4)`."""
        rows = torch.relu(self.rows(torch.relu(self.conv(x)).flatten(2)))
        logits: Tensor = self.head(rows.flatten(1))
        return logits
