"""The blocks of MSF-R3D: the split's law against the paper's equations, and shapes that stay in step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeact.export.models.backbones.msf import MsfBlock, MultiLevelSplit
from edgeact.export.models.backbones.residual import BasicBlock


def _widths(layer: MultiLevelSplit) -> list[int]:
    return [conv.out_channels for conv in layer.modules() if isinstance(conv, nn.Conv3d)]


def _by_the_paper(layer: MultiLevelSplit, x: Tensor, groups: int) -> Tensor:
    """Equations 2 to 4, written with slices."""
    parts = x.tensor_split(groups, dim=1)
    outputs, carried = [parts[0]], x[:, :0]
    for number, (branch, part) in enumerate(zip(layer.branches, parts[1:], strict=True), start=2):
        y = branch(torch.cat([part, carried], dim=1))
        kept = y.shape[1] if number == groups else y.shape[1] - y.shape[1] // 2
        outputs.append(y[:, :kept])
        carried = y[:, kept:]
    return torch.cat(outputs, dim=1)


def test_branch_widths_of_the_paper() -> None:
    assert _widths(MultiLevelSplit(64, 4)) == [16, 24, 28]


@settings(max_examples=30, deadline=None)
@given(channels=st.integers(4, 40), groups=st.integers(2, 6))
def test_split_follows_the_equations(channels: int, groups: int) -> None:
    groups = min(groups, channels)
    layer = MultiLevelSplit(channels, groups).eval()
    x = torch.randn(2, channels, 2, 3, 3)
    y = layer(x)
    first = x.tensor_split(groups, dim=1)[0].shape[1]
    assert y.shape == x.shape
    assert torch.equal(y[:, :first], x[:, :first])
    assert torch.equal(y, _by_the_paper(layer, x, groups))


@settings(max_examples=30, deadline=None)
@given(
    block=st.sampled_from([BasicBlock, MsfBlock]),
    channels=st.sampled_from([(4, 4, 1), (4, 8, 1), (4, 8, 2), (8, 8, 2)]),
    edges=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
)
def test_blocks_halve_rounding_up(
    block: type[nn.Module], channels: tuple[int, int, int], edges: tuple[int, int, int]
) -> None:
    inputs, outputs, stride = channels
    y = block(inputs, outputs, stride).eval()(torch.randn(1, inputs, *edges))
    assert y.shape == (1, outputs, *((edge + stride - 1) // stride for edge in edges))
    assert bool((y >= 0).all())


@pytest.mark.parametrize("edges", [(1, 7, 7), (3, 5, 8)])
def test_shortcut_pools_the_largest_value(edges: tuple[int, int, int]) -> None:
    block = MsfBlock(4, 8, 2)
    assert isinstance(block.shortcut, nn.Sequential)
    x = torch.randn(1, 4, *edges)
    assert torch.equal(block.shortcut[0](x), nn.MaxPool3d(2, ceil_mode=True)(x))
