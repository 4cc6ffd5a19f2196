"""NST: one weight a position, the frame's inside the position's, and no channel told from another."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.export.models.attention.nst import Nst


def _module(seed: int, channels: int = 8) -> Nst:
    torch.manual_seed(seed)
    return Nst(channels).eval()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), frames=st.integers(1, 5), size=st.tuples(st.integers(1, 7), st.integers(1, 7)))
def test_weights_are_shared_by_all_channels(seed: int, frames: int, size: tuple[int, int]) -> None:
    module = _module(seed)
    x = torch.randn(2, 8, frames, *size)
    with torch.no_grad():
        weights = module.weights(x)
        y = module(x)
    assert weights.shape == (2, 1, frames, *size)
    assert bool(((weights > 0) & (weights < 1)).all())
    assert torch.equal(y, x * weights)


def test_twelve_weights_a_channel() -> None:
    assert sum(p.numel() for p in _module(0, 256).parameters() if p.dim() > 1) == 12 * 256


def test_a_frame_weighs_its_neighbours_and_no_farther_one() -> None:
    module = _module(0)
    x = torch.randn(1, 8, 5, 4, 4)
    other = x.clone()
    other[:, :, 0] += 1
    with torch.no_grad():
        change = (module.weights(x) - module.weights(other)).abs().amax(dim=(0, 1, 3, 4))
    assert bool((change[:2] > 0).all())
    assert bool((change[2:] == 0).all())


def test_spatial_attention_looks_at_weighed_frames() -> None:
    module = _module(0)
    x = torch.randn(1, 8, 3, 4, 4)
    with torch.no_grad():
        plain = torch.sigmoid(module.where(x))
        frames = torch.sigmoid(module.when(x.mean(dim=(3, 4), keepdim=True)))
        nested = module.weights(x) / frames
    torch.testing.assert_close(nested, torch.sigmoid(module.where(x * frames)))
    assert not torch.allclose(nested, plain)
