"""Costs counted by hand on layers small enough to do so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgeact.export.models.cost import Cost, count_parameters, measure_cost

LAYERS = {
    "conv": (nn.Conv3d(3, 8, (3, 5, 7), (1, 2, 2), (1, 2, 3), bias=False), (1, 3, 4, 8, 8), 8 * 3 * 105, 8 * 4 * 16),
    "grouped": (nn.Conv3d(8, 16, 1, groups=4, bias=False), (1, 8, 2, 3, 3), 16 * 2, 16 * 2 * 9),
    "linear": (nn.Linear(10, 6, bias=False), (1, 10), 60, 6),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_costs_what_its_shapes_say(name: str) -> None:
    layer, shape, parameters, outputs = LAYERS[name]
    cost = measure_cost(layer, shape)
    inputs = torch.Size(shape).numel()
    assert cost.parameters == parameters
    assert cost.macs == outputs * parameters // layer.get_parameter("weight").shape[0]
    assert cost.elements_moved == inputs + parameters + outputs


class _Attention(nn.Module):
    """softmax(x x') x, spelled out or by PyTorch's own operator."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            return nn.functional.scaled_dot_product_attention(x, x, x)
        return torch.softmax(x @ x.transpose(-1, -2), dim=-1) @ x


class _Spectrum(nn.Module):
    """There and back again."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[-2:])
        return result


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_products_of_computed_matrices_count(fused: bool, device: str) -> None:
    with torch.device(device):
        cost = measure_cost(_Attention(fused), (2, 3, 10, 8))
    assert cost.macs == 2 * (2 * 3 * 10 * 10 * 8)


def test_a_fourier_transform_counts_by_its_formula() -> None:
    """8 x 16 = 2**7 real values: half of 5/2 N log2 N, twice."""
    assert measure_cost(_Spectrum(), (1, 2, 8, 16)).macs == 2 * (2 * 128 * 7 * 5 // 4)


def test_traffic_follows_the_precision() -> None:
    cost = Cost(1, 2, 1000)
    assert (cost.bytes_moved("fp32"), cost.bytes_moved("fp16"), cost.bytes_moved("int8")) == (4000, 2000, 1000)


def test_frozen_parameters_count_and_buffers_do_not() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).requires_grad_(False)
    assert count_parameters(module) == 6 + 2 + 4


def test_counting_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    measure_cost(module, (1, 1, 2, 2, 2))
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(not layer._forward_hooks for layer in module.modules())
