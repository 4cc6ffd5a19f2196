"""What is collected of every attention module is what it weighed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeact.export.explain.attention_weights import collect_weights
from edgeact.export.models.attention.base import AttentionModule
from edgeact.export.models.attention.fsam import Fam
from edgeact.export.models.attention.registry import ATTENTIONS
from edgeact.export.models.attention.se_sa import SelfAttention
from edgeact.export.models.formula import parse_formula
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.registry import MODELS
from tests.export.explain.making import FRAMES, Fixed, Probe

_CLIP = torch.randn(1, 3, 4, 5, 7, generator=torch.Generator().manual_seed(0))


def test_known_gates_give_their_weights() -> None:
    channels, frames, both = (
        torch.rand(1, 6, 1, 1, 1),
        torch.tensor(FRAMES).view(1, 1, 4, 1, 1),
        torch.rand(1, 1, 4, 5, 7),
    )
    module = Probe(Fixed(channels), Fixed(frames), Fixed(both))
    first, second, third = collect_weights(module, _CLIP)
    assert first.channels is not None
    np.testing.assert_array_equal(first.channels, channels.flatten())
    assert (first.kind, first.frames, first.maps) == ("channel attention", None, None)
    assert first.strongest == int(channels.argmax())
    with torch.no_grad():
        np.testing.assert_allclose(np.asarray(first.activation), module.conv(_CLIP)[0, first.strongest], atol=1e-6)
    assert second.frames is not None
    assert second.frames.tolist() == pytest.approx(FRAMES)
    assert (second.channels, second.maps, second.activation) == (None, None, None)
    assert third.kind == "space-time attention"
    np.testing.assert_array_equal(third.maps, both[0, 0])
    np.testing.assert_allclose(np.asarray(third.frames), both.mean(dim=(0, 1, 3, 4)), atol=1e-6)


def test_self_attention_tells_how_much_a_position_is_looked_at() -> None:
    torch.manual_seed(0)
    part = SelfAttention(8)
    module = nn.Sequential(nn.Conv3d(3, 8, 1), part)
    (seen,) = collect_weights(module, _CLIP)
    assert seen.maps is not None
    assert seen.maps.shape == (4, 5, 7)
    np.testing.assert_allclose(seen.maps.mean(axis=(1, 2)), 1, atol=1e-5)
    with torch.no_grad():
        part.f.weight.zero_()
    (uniform,) = collect_weights(module, _CLIP)
    np.testing.assert_allclose(np.asarray(uniform.maps), 1, atol=1e-5)


def test_frequencies_group_the_channels_of_fam() -> None:
    class Known(Fam):
        def weights(self, x: Tensor) -> Tensor:
            return torch.arange(16.0).view(1, 16, 1, 1, 1)

    (seen,) = collect_weights(
        nn.Sequential(nn.Conv3d(3, 16, 1), Known(16, (14, 14), parts=4)), torch.randn(1, 3, 1, 14, 14)
    )
    told = [(one.row, one.column, one.channels, one.weight) for one in seen.frequencies]
    assert told == [(0, 0, 4, 1.5), (0, 2, 4, 5.5), (0, 10, 4, 13.5), (12, 0, 4, 9.5)]


def test_frequencies_that_a_small_map_makes_one_are_one() -> None:
    (seen,) = collect_weights(nn.Sequential(nn.Conv3d(3, 16, 1), Fam(16, (1, 1), parts=16)), torch.randn(1, 3, 1, 1, 1))
    assert [(one.row, one.column, one.channels) for one in seen.frequencies] == [(0, 0, 16)]


@pytest.mark.parametrize("name", ATTENTIONS)
def test_every_attention_is_found_in_order_and_named_by_its_stage(name: str) -> None:
    torch.manual_seed(0)
    options = NetworkConfig(3, 16, 16, (48, 48))
    module = parse_formula(f"resnet3d-18+{name}?stages=1,3").build(options).eval()
    seen = collect_weights(module, torch.randn(options.input_shape))
    there = [part for part in module.modules() if isinstance(part, AttentionModule)]
    assert len(seen) == len(there)
    assert [one.stage for one in seen] == sorted(one.stage for one in seen)
    assert {one.stage for one in seen} == {1, 3}
    for one in seen:
        assert any(values is not None for values in (one.channels, one.frames, one.maps))
        assert one.frames is None or one.frames.shape == ({1: 8, 3: 2}[one.stage],)


@pytest.mark.parametrize("name", MODELS)
def test_looking_changes_no_answer(name: str) -> None:
    torch.manual_seed(0)
    options = NetworkConfig(3, 4, 4, (32, 32))
    module, clip = MODELS[name].build(options).eval(), torch.randn(options.input_shape)
    with torch.no_grad():
        before = module(clip)
        seen = collect_weights(module, clip)
        assert torch.equal(module(clip), before)
    assert bool(seen) == any(isinstance(part, AttentionModule) for part in module.modules())
