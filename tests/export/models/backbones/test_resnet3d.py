"""3-D ResNets: layer counts that give them their names, groups that follow the width, sites where features are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgeact.export.models.attention.base import Site, no_attention
from edgeact.export.models.backbones.registry import BACKBONES
from edgeact.export.models.backbones.residual import Bottleneck
from edgeact.export.models.backbones.resnet3d import resnext3d_101
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.part_options import PartOptions

_NAMES = ["resnet3d-18", "resnet3d-50", "resnext3d-101"]


@pytest.mark.parametrize("name", _NAMES)
def test_the_name_counts_the_layers(name: str) -> None:
    with torch.device("meta"):
        module = BACKBONES[name].build(NetworkConfig(5, 4, 4, (32, 32)), PartOptions(), no_attention)
    layers = [
        key
        for key, layer in module.named_modules()
        if isinstance(layer, (nn.Conv3d, nn.Linear)) and "shortcut" not in key
    ]
    assert len(layers) == int(name.rpartition("-")[2])


@pytest.mark.parametrize("width", [4, 20, 64])
def test_groups_keep_their_channels_at_any_width(width: int) -> None:
    with torch.device("meta"):
        module = resnext3d_101(NetworkConfig(5, width, 4, (32, 32)), PartOptions(), no_attention)
    grouped = [layer for layer in module.modules() if isinstance(layer, nn.Conv3d) and layer.groups > 1]
    assert {layer.groups for layer in grouped} == {width // 2}
    assert sorted({layer.in_channels // layer.groups for layer in grouped}) == [4, 8, 16, 32]


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize(("frames", "size"), [(16, (112, 112)), (1, (16, 16)), (33, (63, 90))])
def test_sites_are_if_the_activations_are(name: str, frames: int, size: tuple[int, int]) -> None:
    promised: list[Site] = []
    seen: list[tuple[int, ...]] = []

    class _Look(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(tuple(x.shape[1:]))
            return x

    def attention(site: Site) -> nn.Module:
        promised.append(site)
        return _Look()

    options = NetworkConfig(5, 4, frames, size)
    with torch.device("meta"):
        BACKBONES[name].build(options, PartOptions(), attention).eval()(torch.zeros(options.input_shape))
    assert seen == [(site.channels, site.frames, *site.size) for site in promised]
    assert [site.stage for site in promised] == [1, 2, 3, 4]
    if frames == 16:
        assert [shape[1:] for shape in seen] == [(8, 28, 28), (4, 14, 14), (2, 7, 7), (1, 4, 4)]


@pytest.mark.parametrize(("expansion", "groups"), [(4, 1), (2, 2)])
@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (8, 16, 1), (8, 16, 2), (8, 8, 2)])
@torch.no_grad()
def test_a_bottleneck_adds_its_shortcut(expansion: int, groups: int, inputs: int, outputs: int, stride: int) -> None:
    torch.manual_seed(0)
    block = Bottleneck(expansion, groups)(inputs, outputs, stride).eval()
    x = torch.randn(1, inputs, 5, 6, 7)
    shortcut = block.get_submodule("shortcut")(x)
    y = x
    for name in ("conv1", "conv2", "conv3"):
        y = block.get_submodule(name)(y)
    assert (shortcut is x) == (inputs == outputs and stride == 1)
    assert y.shape == (1, outputs, *((edge + stride - 1) // stride for edge in (5, 6, 7)))
    assert torch.equal(block(x), torch.relu(y + shortcut))
