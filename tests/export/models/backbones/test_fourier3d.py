"""Fourier convolutions by their equations, what they can see, and what of a 3DRFNet can be left out."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeact.export.models.attention.cbam import Cbam
from edgeact.export.models.backbones.fourier3d import FastFourierConv, FourierUnit, SpectralTransform
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.registry import find_model

_OPTIONS = NetworkConfig(5, 8, 4, (32, 32))


def _count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(layer, kind) for layer in module.modules())


@settings(max_examples=30)
@given(
    channels=st.tuples(st.integers(2, 12), st.integers(2, 12)),
    edges=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    stride=st.sampled_from([1, 2]),
    ratio=st.sampled_from([0.1, 0.5, 0.9]),
)
def test_convolutions_follow_the_equations_at_any_size(
    channels: tuple[int, int], edges: tuple[int, int, int], stride: int, ratio: float
) -> None:
    """Equations 1 and 2 of FFC with four kernels; ours convolves both parts to the local channels at once."""
    inputs, outputs = channels
    layer = FastFourierConv(inputs, outputs, stride, ratio).eval()
    x = torch.randn(2, inputs, *edges)
    y = layer(x)
    assert y.shape == (2, outputs, *((edge + stride - 1) // stride for edge in edges))
    near, far = x[:, : layer.split[0]], x[:, layer.split[0] :]
    kernel = cast(nn.Conv3d, layer.to_local[0]).weight
    parts = zip((near, far), torch.split(kernel, layer.split, dim=1), strict=True)
    local = sum(nn.functional.conv3d(part, weight, None, stride, 1) for part, weight in parts)
    torch.testing.assert_close(y[:, : kernel.shape[0]], layer.to_local[1](local), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(y[:, kernel.shape[0] :], layer.to_global(near) + layer.spectral(far))


def test_one_pixel_reaches_its_whole_frame_and_no_other() -> None:
    torch.manual_seed(0)
    unit = FourierUnit(3).eval()
    x = torch.randn(1, 3, 4, 7, 9)
    moved = x.clone()
    moved[0, 0, 2, 3, 4] += 1
    changed = (unit(moved) - unit(x)).abs().amax(dim=1)[0] > 1e-7
    assert changed[2].float().mean() > 0.95
    assert not changed[[0, 1, 3]].any()


@pytest.mark.parametrize("size", [(7, 7), (8, 5)])
def test_a_unit_that_keeps_the_spectrum_gives_its_input_back(size: tuple[int, int]) -> None:
    unit = FourierUnit(2).eval()
    unit.conv = nn.Sequential(nn.Identity())
    x = torch.randn(1, 2, 3, *size)
    torch.testing.assert_close(unit(x), x, atol=1e-6, rtol=1e-5)


def test_spectra_are_float32_under_autocast() -> None:
    seen: list[Tensor] = []
    layer = SpectralTransform(4, 8, 2)
    layer.unit.conv.register_forward_hook(lambda _layer, inputs, output: seen.extend([inputs[0], output]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(torch.randn(2, 4, 4, 6, 6)).float().square().mean().backward()
    assert [tensor.dtype for tensor in seen] == [torch.float32] * 2
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize(("name", "fourier", "blocks"), [("3drfnet-18", 12, 8), ("3drfnet-50", 13, 16)])
def test_fourier_convolution_and_inner_connections_are_separate_options(name: str, fourier: int, blocks: int) -> None:
    for ffc in (0, 1):
        for inner in (0, 1):
            module = find_model(f"{name}?ffc={ffc}&inner={inner}").build(_OPTIONS)
            assert _count(module, FastFourierConv) == ffc * fourier
            assert _count(module, Cbam) == inner * blocks


@pytest.mark.parametrize("depth", [18, 50])
def test_without_both_it_is_the_plain_network(depth: int) -> None:
    plain = find_model(f"resnet3d-{depth}").build(_OPTIONS).eval()
    bare = find_model(f"3drfnet-{depth}?ffc=0&inner=0").build(_OPTIONS).eval()
    bare.load_state_dict(plain.state_dict())
    x = torch.randn(_OPTIONS.input_shape)
    assert torch.equal(bare(x), plain(x))


def test_attention_may_stand_behind_its_stages_too() -> None:
    module = find_model("3drfnet-18+eam?stages=3").build(_OPTIONS).eval()
    assert module(torch.randn(_OPTIONS.input_shape)).shape == (1, 5)
