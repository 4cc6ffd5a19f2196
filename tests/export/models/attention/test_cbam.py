"""CBAM in three dimensions: the paper's two equations, one after the other."""

from __future__ import annotations

import torch
from torch.nn import functional

from edgeact.export.models.attention.cbam import Cbam, ChannelAttention


@torch.no_grad()
def test_channels_then_positions_by_the_papers_equations() -> None:
    torch.manual_seed(0)
    cbam, x = Cbam(16, 4).eval(), torch.randn(2, 16, 3, 9, 5)
    down, up = cbam.get_parameter("0.fc.0.weight"), cbam.get_parameter("0.fc.2.weight")

    def mlp(pooled: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(functional.linear(pooled, down))
        return functional.linear(hidden, up)

    flat = x.flatten(2)
    channels = torch.sigmoid(mlp(flat.mean(dim=2)) + mlp(flat.max(dim=2).values))
    y = x * channels[:, :, None, None, None]
    maps = torch.stack([y.max(dim=1).values, y.mean(dim=1)], dim=1)
    positions = torch.sigmoid(functional.conv3d(maps, cbam.get_parameter("1.conv.weight"), padding=3))
    torch.testing.assert_close(cbam(x), y * positions)


@torch.no_grad()
def test_a_peak_moves_weights_that_a_mean_would_hide() -> None:
    torch.manual_seed(1)
    gate = ChannelAttention(8, 2)
    flat = torch.zeros(1, 8, 2, 4, 4)
    peaked = flat.clone()
    peaked[0, 3, 0, 0, 0], peaked[0, 3, 1, 3, 3] = 5.0, -5.0
    assert torch.equal(flat.mean(dim=(2, 3, 4)), peaked.mean(dim=(2, 3, 4)))
    assert not torch.allclose(gate.weights(flat), gate.weights(peaked))
