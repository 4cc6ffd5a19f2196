"""C3D: the published network layer by layer, and the grid that other clips leave for its hidden layers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeact.export.models.attention.base import Site, no_attention
from edgeact.export.models.backbones.c3d import c3d, msf_c3d
from edgeact.export.models.backbones.msf import MsfBlock, MsfOptions
from edgeact.export.models.layers import HalvingMaxPool
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.part_options import PartOptions

_PUBLISHED = NetworkConfig(101, 64, 16, (112, 112))


def _build(options: NetworkConfig) -> nn.Module:
    with torch.device("meta"):
        return c3d(options, PartOptions(), no_attention)


def _first_hidden(module: nn.Module) -> nn.Linear:
    return next(layer for layer in module.modules() if isinstance(layer, nn.Linear))


def test_the_published_layers() -> None:
    module = _build(_PUBLISHED)
    convs = [(conv.in_channels, conv.out_channels) for conv in module.modules() if isinstance(conv, nn.Conv3d)]
    assert convs == [(3, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512), (512, 512), (512, 512)]
    linear = [(layer.in_features, layer.out_features) for layer in module.modules() if isinstance(layer, nn.Linear)]
    assert linear == [(8192, 4096), (4096, 4096), (4096, 101)]
    assert [layer.p for layer in module.modules() if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


def test_attention_stands_on_what_the_convolutions_give() -> None:
    sites: list[Site] = []

    def note(site: Site) -> None:
        sites.append(site)

    with torch.device("meta"):
        c3d(_PUBLISHED, PartOptions(), note)
    assert sites == [
        Site(64, 16, (112, 112), 1),
        Site(128, 16, (56, 56), 2),
        Site(256, 8, (28, 28), 3),
        Site(512, 4, (14, 14), 4),
        Site(512, 2, (7, 7), 5),
    ]


@settings(max_examples=25)
@given(frames=st.integers(1, 40), height=st.integers(16, 130), width=st.integers(16, 130))
def test_sites_and_grid_are_what_comes_out(frames: int, height: int, width: int) -> None:
    seen: list[tuple[int, ...]] = []

    class Look(nn.Module):
        def __init__(self, site: Site) -> None:
            super().__init__()
            self.shape = (site.channels, site.frames, *site.size)

        def forward(self, x: Tensor) -> Tensor:
            assert tuple(x.shape[1:]) == self.shape
            seen.append(self.shape)
            return x

    options = NetworkConfig(3, 4, frames, (height, width))
    with torch.device("meta"):
        module = c3d(options, PartOptions(), Look)
        assert module(torch.zeros(2, *options.input_shape[1:])).shape == (2, 3)
    assert len(seen) == 5
    grid = -(-frames // 16) * -(-height // 32) * -(-width // 32)  # halving with rounding up, four and five times
    assert _first_hidden(module).in_features == 32 * grid


@pytest.mark.parametrize("frames", [1, 8, 16])
def test_up_to_sixteen_frames_need_the_published_hidden_layer(frames: int) -> None:
    assert _first_hidden(_build(NetworkConfig(101, 64, frames, (112, 112)))).in_features == 8192


@pytest.mark.parametrize("edge", [7, 8])
def test_the_last_pooling_keeps_the_last_row(edge: int) -> None:
    x = torch.zeros(1, 1, 1, edge, edge)
    x[..., -1, -1] = 1
    assert HalvingMaxPool()(x)[..., -1, -1] == 1


def test_the_scale_of_what_goes_in_comes_out() -> None:
    torch.manual_seed(0)
    module = c3d(NetworkConfig(5, 8, 16, (64, 64)), PartOptions(), no_attention).eval()
    seen: list[float] = []
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            layer.register_forward_hook(lambda _, __, output: seen.append(float(output.detach().std())))
    module(torch.randn(2, 3, 16, 64, 64))
    assert len(seen) == 8
    assert all(0.5 < scale < 10 for scale in seen)


def test_the_pairs_become_msf_modules_with_projections() -> None:
    with torch.device("meta"):
        module = msf_c3d(_PUBLISHED, MsfOptions(), no_attention)
    blocks = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, MsfBlock)]
    assert [name for name, _ in blocks] == ["stages.2.1", "stages.3.1", "stages.4.1"]
    assert not any(isinstance(layer.shortcut, nn.Identity) for _, layer in blocks)
