"""Small modules to train."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeact.export.models.registry import MODELS
from tests.export.videos import CLIP

__all__ = ["Recorder", "build", "have_equal_states"]


class Recorder(nn.Module):
    """A module that records its inputs and the types of its computation."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.inputs: list[Tensor] = []
        self.dtypes: set[torch.dtype] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.inputs.append(x.detach().clone())
        logits: Tensor = self.linear(x.mean(dim=(2, 3, 4)))
        self.dtypes.add(logits.dtype)
        return logits


def build(name: str = "cnn3d-gate", *, width: int = 4, classes: int = 2, seed: int = 0) -> nn.Module:
    """Build a registry model for clips of `CLIP`, the same for the same arguments."""
    torch.manual_seed(seed)
    spec = MODELS[name]
    return spec.build(spec.config(classes, width=width, clip=CLIP))


def have_equal_states(first: nn.Module, second: nn.Module) -> bool:
    """Check that two modules have the same state dict, bit for bit."""
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())
