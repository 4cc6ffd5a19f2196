"""Attention: weights within (0, 1), a true DCT basis, and squeeze-and-excitation as the special case."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgeact.errors import UsageError
from edgeact.export.models.attention.base import Site
from edgeact.export.models.attention.fsam import Fam, Frequencies, Fsam, FsamOptions, Sam, dct_basis, fsam
from edgeact.export.models.attention.gate import AttentionGate
from tests.messages import names

MODULES: dict[str, nn.Module] = {
    "fam": Fam(16, (7, 5)),
    "sam": Sam(),
    "fsam": Fsam(16, (7, 5)),
    "gate": AttentionGate(16),
}


@pytest.mark.parametrize("name", MODULES)
@settings(max_examples=20)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 10.0]))
def test_attention_shrinks_every_value_and_keeps_its_sign(name: str, seed: int, scale: float) -> None:
    x = torch.randn(2, 16, 3, 7, 5, generator=torch.Generator().manual_seed(seed)) * scale
    with torch.no_grad():
        y = MODULES[name](x)
    assert y.shape == x.shape
    assert bool((y.abs() <= x.abs()).all())
    assert torch.equal(y.sign(), x.sign())
    assert not torch.equal(y, x)


@pytest.mark.parametrize("frequencies", get_args(Frequencies))
@pytest.mark.parametrize("size", [(7, 7), (14, 14), (28, 21), (35, 8)])
def test_frequencies_are_orthonormal_if_the_map_has_the_grid(frequencies: Frequencies, size: tuple[int, int]) -> None:
    images = dct_basis(32, size, 32, frequencies).reshape(32, -1).double()
    torch.testing.assert_close(images @ images.T, torch.eye(32, dtype=torch.float64), atol=1e-5, rtol=0)


def test_low_selects_by_frequency_and_bot_none_of_the_best() -> None:
    grid = dct_basis(49, (7, 7), 1)[0]  # the mean, which squeeze-and-excitation takes
    assert torch.equal(dct_basis(4, (7, 7), 4, "low")[0], grid)
    assert torch.equal(dct_basis(4, (7, 7), 4, "top")[0], grid)
    best, worst = (
        {image.numpy().tobytes() for image in dct_basis(16, (7, 7), 16, selection)} for selection in ("top", "bot")
    )
    assert not best & worst
    changes = sorted(_sign_changes(image) for image in dct_basis(28, (7, 7), 28, "low"))
    assert changes == [total for total in range(7) for _ in range(total + 1)]  # every pair that adds up to 6 or less


def _sign_changes(image: torch.Tensor) -> int:
    """Row plus column frequency: how often the cosines change their sign along each edge."""
    rows, columns = image[:, 0].sign(), image[0].sign()
    return int((rows[1:] != rows[:-1]).sum() + (columns[1:] != columns[:-1]).sum())


@pytest.mark.parametrize("size", [(1, 1), (2, 4), (6, 7)])
def test_frequencies_of_small_maps_are_clipped_and_of_unit_norm(size: tuple[int, int]) -> None:
    basis = dct_basis(32, size, 16)
    assert basis.shape == (32, *size)
    torch.testing.assert_close(basis.flatten(1).norm(dim=1), torch.ones(32))


def test_channels_of_a_part_share_their_frequency() -> None:
    basis = dct_basis(64, (7, 7), 16)
    assert torch.equal(basis.view(16, 4, 7, 7), basis[::4, None].expand(16, 4, 7, 7))
    assert len({image.numpy().tobytes() for image in basis}) == 16


@settings(max_examples=20)
@given(height=st.integers(1, 12), width=st.integers(1, 12), frames=st.integers(1, 5))
def test_frequency_zero_alone_is_squeeze_and_excitation(height: int, width: int, frames: int) -> None:
    fam = Fam(8, (height, width), parts=1)
    x = torch.randn(2, 8, frames, height, width)
    pooled = x.mean(dim=(2, 3, 4)) * math.sqrt(height * width)
    torch.testing.assert_close(fam(x), x * fam.fc(pooled)[:, :, None, None, None], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("channels", "asked", "parts"), [(64, 16, 16), (24, 16, 8), (20, 16, 4), (7, 16, 1), (64, 32, 32), (64, 12, 4)]
)
def test_parts_divide_the_channels(channels: int, asked: int, parts: int) -> None:
    assert len({image.numpy().tobytes() for image in Fam(channels, (7, 7), parts=asked).basis}) == parts


def test_options_reach_the_basis() -> None:
    module = fsam(Site(64, 2, (7, 7), 3), FsamOptions(parts=8, frequencies="low"))
    assert torch.equal(next(module.buffers()), dct_basis(64, (7, 7), 8, "low"))


def test_another_map_is_refused_with_both_sizes() -> None:
    with pytest.raises(UsageError, check=names("maps of (7, 7), got (7, 8)", "clip size")):
        Fam(16, (7, 7))(torch.zeros(1, 16, 2, 7, 8))
