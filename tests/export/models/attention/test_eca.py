"""Local gates: a weight depends on its neighbours within the kernel and on nothing else; ECA-Net's kernel sizes."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgeact.errors import UsageError
from edgeact.export.models.attention.base import Site
from edgeact.export.models.attention.eca import EcaOptions, LocalGate, adaptive_kernel, eca
from edgeact.export.models.formula import parse_formula
from tests.messages import names

_AXIS = {"channels": 1, "frames": 2}


@settings(max_examples=60)
@given(
    along=st.sampled_from(["channels", "frames"]),
    kernel=st.sampled_from([1, 3, 5, 7, 9]),
    peaks=st.booleans(),
    place=st.integers(0, 11),
    seed=st.integers(0, 1000),
)
def test_a_change_reaches_as_far_as_the_kernel(
    along: Literal["channels", "frames"], kernel: int, peaks: bool, place: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    gate, axis = LocalGate(along, kernel, peaks=peaks), _AXIS[along]
    nn.init.constant_(gate.conv.weight, 0.5)
    x = torch.rand(1, 12, 12, 3, 3, generator=generator)
    changed = x.clone()
    changed.select(axis, place).add_(1.0)
    with torch.no_grad():
        before, after = gate.weights(x), gate.weights(changed)
    expected = [1, 1, 1, 1, 1]
    expected[axis] = 12
    assert list(before.shape) == expected
    moved = (before != after).flatten()
    near = (torch.arange(12) - place).abs() <= kernel // 2
    assert torch.equal(moved, near)
    assert bool(((before > 0) & (before < 1)).all())


@torch.no_grad()
def test_the_peak_is_added_to_the_mean() -> None:
    gate = LocalGate("channels", 1, peaks=True)
    nn.init.constant_(gate.conv.weight, 1.0)
    x = torch.randn(2, 6, 3, 4, 5)
    flat = x.flatten(2)
    expected = torch.sigmoid(flat.mean(dim=2) + flat.amax(dim=2))
    torch.testing.assert_close(gate.weights(x).flatten(1), expected)


@pytest.mark.parametrize(
    ("channels", "kernel"), [(4, 1), (16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)]
)
def test_the_adaptive_kernel_is_eca_nets(channels: int, kernel: int) -> None:
    assert adaptive_kernel(channels) == kernel
    assert [tuple(p.shape) for p in eca(Site(channels, 1, (1, 1), 1), EcaOptions()).parameters()] == [(1, 1, kernel)]


def test_a_kernel_that_is_given_is_taken_everywhere() -> None:
    gate = eca(Site(2048, 1, (1, 1), 4), EcaOptions(kernel=9))
    assert [p.numel() for p in gate.parameters()] == [9]


@pytest.mark.parametrize("kernel", ["4", "0", "-3", "wide"])
def test_kernels_without_a_middle_are_refused(kernel: str) -> None:
    with pytest.raises(UsageError, check=names("option kernel")):
        parse_formula(f"r3d-18+eca?kernel={kernel}")
