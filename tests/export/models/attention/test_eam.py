"""EAM by its equations: what each order computes, where the residual is, and how far a change is felt."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgeact.errors import UsageError
from edgeact.export.models.attention.base import Gate
from edgeact.export.models.attention.eam import Eam
from edgeact.export.models.formula import parse_formula
from edgeact.export.models.network_config import NetworkConfig
from tests.messages import names

_ORDERS: list[Literal["st", "ts", "s", "t", "parallel"]] = ["st", "ts", "s", "t", "parallel"]


def _spatial(x: Tensor, kernel: Tensor) -> Tensor:
    """Equations 4 to 7: channels weighed."""
    flat = x.flatten(2)
    s = flat.mean(dim=2) + flat.max(dim=2).values
    return torch.sigmoid(functional.conv1d(s[:, None], kernel, padding=kernel.shape[-1] // 2))[
        :, 0, :, None, None, None
    ]


def _temporal(x: Tensor, kernel: Tensor) -> Tensor:
    """Equations 8 to 11, by the paper's transposition: frames weighed as if they were channels."""
    return _spatial(x.transpose(1, 2), kernel).transpose(1, 2)


@pytest.mark.parametrize("order", _ORDERS)
@pytest.mark.parametrize("kernel", [3, 5, 7, 9])
@torch.no_grad()
def test_every_order_is_its_equations(order: Literal["st", "ts", "s", "t", "parallel"], kernel: int) -> None:
    torch.manual_seed(kernel)
    module, v = Eam(order, kernel), torch.randn(2, 12, 5, 4, 3)
    kernels = {letter: module.get_parameter(f"gates.{letter}.conv.weight") for letter in module.gates}
    weigh = {"s": _spatial, "t": _temporal}
    if order == "parallel":
        weighed = v * _spatial(v, kernels["s"]) + v * _temporal(v, kernels["t"])
    else:
        weighed = v
        for letter in order:
            weighed = weighed * weigh[letter](weighed, kernels[letter])
    torch.testing.assert_close(module(v), v + weighed)
    assert len(kernels) == (1 if order in ("s", "t") else 2)


@settings(max_examples=30)
@given(order=st.sampled_from(_ORDERS), seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 10.0]))
def test_values_keep_their_sign_and_grow_at_most_by_the_weights(
    order: Literal["st", "ts", "s", "t", "parallel"], seed: int, scale: float
) -> None:
    torch.manual_seed(seed)
    module, x = Eam(order), torch.randn(1, 8, 4, 3, 3) * scale
    with torch.no_grad():
        y = module(x)
    assert torch.equal(y.sign(), x.sign())
    assert bool((y.abs() >= x.abs()).all())
    assert bool((y.abs() <= (3 if order == "parallel" else 2) * x.abs()).all())


def test_one_frame_is_enough() -> None:
    assert Eam()(torch.rand(1, 4, 1, 1, 1)).shape == (1, 4, 1, 1, 1)


@pytest.mark.parametrize(
    ("option", "gates", "kernel"), [("", 8, 3), ("?stages=3,4", 4, 3), ("?order=t&kernel=9", 4, 9), ("?order=ts", 8, 3)]
)
def test_options_reach_the_modules(option: str, gates: int, kernel: int) -> None:
    with torch.device("meta"):
        network = parse_formula(f"resnet3d-18+eam{option}").build(NetworkConfig(5, 4, 4, (32, 32)))
    found = [module for module in network.modules() if isinstance(module, Gate)]
    assert len(found) == gates
    assert {layer.kernel_size for gate in found for layer in gate.modules() if isinstance(layer, nn.Conv1d)} == {
        (kernel,)
    }


@pytest.mark.parametrize("option", ["order=st,ts", "order=xyz", "kernel=4", "kernel=11", "kernel=1"])
def test_what_the_paper_does_not_have_is_refused(option: str) -> None:
    with pytest.raises(UsageError, check=names(f"option {option.partition('=')[0]}")):
        parse_formula(f"resnet3d-50+eam?{option}")
