"""MSF: the split's law against the paper's equations, what it may see, and the modules of figure 8."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeact.export.models.backbones.msf import MsfBlock, MsfOptions, MultiLevelSplit

_POSITIONS: tuple[Literal["a", "b", "c", "d"], ...] = ("a", "b", "c", "d")


def _convs(layer: nn.Module) -> Iterator[nn.Conv3d]:
    return (conv for conv in layer.modules() if isinstance(conv, nn.Conv3d))


def _by_the_paper(layer: MultiLevelSplit, x: Tensor, groups: int) -> Tensor:
    """Equations 2 to 4, written with slices."""
    parts = x.chunk(groups, dim=1)
    outputs, carried = [parts[0]], x[:, :0]
    for number, (branch, part) in enumerate(zip(layer.branches, parts[1:], strict=True), start=2):
        y = branch(torch.cat([part, carried], dim=1))
        kept = y.shape[1] if number == len(parts) else y.shape[1] - y.shape[1] // 2
        outputs.append(y[:, :kept])
        carried = y[:, kept:]
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize(
    ("groups", "widths"),
    [(3, [22, 31]), (4, [16, 24, 28]), (5, [13, 19, 22, 23]), (6, [11, 16, 19, 20, 19])],
)
def test_branch_widths_at_the_papers_first_stage(groups: int, widths: list[int]) -> None:
    assert [conv.out_channels for conv in _convs(MultiLevelSplit(64, groups))] == widths


@settings(max_examples=30)
@given(channels=st.integers(4, 40), groups=st.integers(2, 6))
def test_split_follows_the_equations(channels: int, groups: int) -> None:
    layer = MultiLevelSplit(channels, groups).eval()
    x = torch.randn(2, channels, 2, 3, 3)
    y = layer(x)
    first = x.chunk(groups, dim=1)[0].shape[1]
    assert y.shape == x.shape
    assert torch.equal(y[:, :first], x[:, :first])
    assert torch.equal(y, _by_the_paper(layer, x, groups))


@settings(max_examples=20)
@given(width=st.integers(2, 8), groups=st.integers(3, 6), data=st.data())
def test_no_output_sees_a_later_group(width: int, groups: int, data: st.DataObject) -> None:
    layer = MultiLevelSplit(width * groups, groups).eval()
    changed = data.draw(st.integers(0, groups - 1))
    x = torch.randn(1, width * groups, 1, 3, 3)
    other = x.clone()
    other[:, changed * width : (changed + 1) * width] += 1
    before, after = layer(x), layer(other)
    kept = [width]  # channels that each group leaves in the output
    for conv in list(_convs(layer))[:-1]:
        kept.append(conv.out_channels - conv.out_channels // 2)
    untouched = sum(kept[:changed])
    assert torch.equal(before[:, :untouched], after[:, :untouched])
    assert not torch.equal(before[:, untouched:], after[:, untouched:])
    if changed == 0:  # the first group is passed on and fed to no convolution
        assert torch.equal(before[:, width:], after[:, width:])


@settings(max_examples=30)
@given(
    msl=st.sampled_from(_POSITIONS),
    groups=st.integers(3, 6),
    channels=st.sampled_from([(4, 4, 1), (4, 8, 1), (4, 8, 2), (8, 8, 2)]),
    edges=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
)
def test_modules_halve_rounding_up(
    msl: Literal["a", "b", "c", "d"], groups: int, channels: tuple[int, int, int], edges: tuple[int, int, int]
) -> None:
    inputs, outputs, stride = channels
    block = MsfBlock(inputs, outputs, stride, MsfOptions(msl=msl, groups=groups)).eval()
    y = block(torch.randn(1, inputs, *edges))
    assert y.shape == (1, outputs, *((edge + stride - 1) // stride for edge in edges))
    assert bool((y >= 0).all())


@pytest.mark.parametrize("msl", _POSITIONS)
@pytest.mark.parametrize("resizing", [False, True])
def test_msl_stands_if_figure_8_has_it(msl: Literal["a", "b", "c", "d"], resizing: bool) -> None:
    block = MsfBlock(16 if resizing else 32, 32, 2 if resizing else 1, MsfOptions(msl=msl))
    splits = [name for name, layer in block.named_modules() if isinstance(layer, MultiLevelSplit)]
    full = [conv.kernel_size for name, conv in block.named_modules() if isinstance(conv, nn.Conv3d)]
    wide = [conv for conv in _convs(block) if conv.out_channels == 32 and conv.kernel_size != (1, 1, 1)]
    expected = {
        "a": (["conv.1"] if resizing else ["conv"], [(3, 3, 3)]),
        "b": (["msl"], [(3, 3, 3)]),
        "c": (["msl"] if resizing else ["conv", "msl"], [(3, 3, 3)] if resizing else []),
        "d": (["msl"], [(3, 1, 1), (1, 3, 3)]),
    }
    assert (splits, [conv.kernel_size for conv in wide]) == expected[msl]
    assert full.count((1, 1, 1)) == resizing + (resizing and msl == "a")


def test_the_convolutions_of_a_split_never_stride() -> None:
    for msl in _POSITIONS:
        block = MsfBlock(16, 32, 2, MsfOptions(msl=msl))
        splits = [layer for layer in block.modules() if isinstance(layer, MultiLevelSplit)]
        assert all(conv.stride == (1, 1, 1) for layer in splits for conv in _convs(layer))


@pytest.mark.parametrize("edges", [(1, 7, 7), (3, 5, 8)])
def test_shortcut_pools_the_largest_value(edges: tuple[int, int, int]) -> None:
    block = MsfBlock(4, 8, 2)
    assert isinstance(block.shortcut, nn.Sequential)
    x = torch.randn(1, 4, *edges)
    assert torch.equal(block.shortcut[0](x), nn.MaxPool3d(2, ceil_mode=True)(x))


@pytest.mark.parametrize("project", [False, True])
def test_shortcut_projects_if_asked(project: bool) -> None:
    block = MsfBlock(8, 8, 1, project=project)
    assert isinstance(block.shortcut, nn.Identity) != project
