"""NST: one weight a frame, then one a position of the weighed frames, and no channel told from another."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.devices import load_profile
from edgeact.export.models.attention.nst import Nst, When, Where
from edgeact.export.quantize.exclusions import target_exclusions
from edgeact.layer_reasons import AttentionGate
from tests.export.graph.exported import exported


def _parts(seed: int, channels: int = 8) -> tuple[Nst, When, Where]:
    torch.manual_seed(seed)
    module = Nst(channels).eval()
    when, where = module
    assert isinstance(when, When)
    assert isinstance(where, Where)
    return module, when, where


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), frames=st.integers(1, 5), size=st.tuples(st.integers(1, 7), st.integers(1, 7)))
def test_spatial_attention_is_drawn_on_weighed_frames(seed: int, frames: int, size: tuple[int, int]) -> None:
    module, when, where = _parts(seed)
    x = torch.randn(2, 8, frames, *size)
    with torch.no_grad():
        first = when.weights(x)
        second = where.weights(x * first)
        y = module(x)
    assert first.shape == (2, 1, frames, 1, 1)
    assert second.shape == (2, 1, frames, *size)
    assert all(bool(((weights > 0) & (weights < 1)).all()) for weights in (first, second))
    assert torch.equal(y, x * first * second)


def test_module_has_twelve_weights_per_channel() -> None:
    module, _, _ = _parts(0, 256)
    assert sum(p.numel() for p in module.parameters() if p.dim() > 1) == 12 * 256


def test_a_frame_counts_for_its_neighbors_and_no_farther_one() -> None:
    module, _, _ = _parts(0)
    x = torch.randn(1, 8, 5, 4, 4)
    other = x.clone()
    other[:, :, 0] += 1
    with torch.no_grad():
        change = (module(x) - module(other)).abs().amax(dim=(0, 1, 3, 4))
    assert bool((change[:2] > 0).all())
    assert bool((change[2:] == 0).all())


@pytest.mark.slow
def test_int8_leaves_both_maps_in_float() -> None:
    reasons = target_exclusions(exported("msf-r3d+nst").graph, load_profile("cpu"))
    assert list(reasons.values()) == [AttentionGate()] * 4  # after two stages
