"""Squeeze-and-excitation: one weight a channel, and no channel stands out by its place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.export.models.attention.base import Site
from edgeact.export.models.attention.se import SeOptions, SqueezeExcitation, se


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_permuted_channels_with_permuted_layers_give_permuted_weights(seed: int) -> None:
    torch.manual_seed(seed)
    gate, other = SqueezeExcitation(16, 4), SqueezeExcitation(16, 4)
    order = torch.randperm(16)
    with torch.no_grad():
        other.get_parameter("fc.0.weight").copy_(gate.get_parameter("fc.0.weight")[:, order])
        other.get_parameter("fc.2.weight").copy_(gate.get_parameter("fc.2.weight")[order])
        x = torch.randn(2, 16, 3, 4, 5)
        torch.testing.assert_close(other(x[:, order]), gate(x)[:, order])


@torch.no_grad()
def test_only_the_mean_of_a_channel_counts() -> None:
    torch.manual_seed(0)
    gate, x = SqueezeExcitation(8, 2), torch.randn(2, 8, 3, 4, 5)
    weights = gate.weights(x)
    assert weights.shape == (2, 8, 1, 1, 1)
    torch.testing.assert_close(gate.weights(x.mean(dim=(2, 3, 4), keepdim=True).expand_as(x)), weights)
    torch.testing.assert_close(gate(x), x * weights)


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(64, 16, 4), (64, 8, 8), (20, 16, 1), (4, 16, 1)])
def test_the_bottleneck_is_never_empty(channels: int, reduction: int, hidden: int) -> None:
    gate = se(Site(channels, 1, (1, 1), 1), SeOptions(reduction=reduction))
    assert [tuple(p.shape) for p in gate.parameters()] == [(hidden, channels), (channels, hidden)]
