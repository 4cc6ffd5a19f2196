"""Settled models pass on activations of a size; nothing but the norms' statistics changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeact.export.models.registry import MODELS
from edgeact.export.models.spec import resized_clip
from edgeact.export.models.synthetic import calibrate_batch_norm, synthetic_clips

CLIP = resized_clip(MODELS["r3d-18"].clip, clip_frames=4, size=32)


def _narrow(name: str) -> nn.Module:
    spec = MODELS[name]
    torch.manual_seed(0)
    return spec.build(spec.config(5, width=4, clip=CLIP)).eval()


def test_clips_are_of_the_contract_and_the_same_again() -> None:
    first, second = synthetic_clips(CLIP, 2), synthetic_clips(CLIP, 2)
    assert all(clip.shape == CLIP.input_shape and clip.dtype == np.float32 for clip in first)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], synthetic_clips(CLIP, 1, seed=1)[0])
    assert 0.7 < np.std(first) < 1.5


@pytest.mark.parametrize("name", ["r3d-18", "resnet3d-50"])
def test_every_norm_gives_values_of_unit_size(name: str) -> None:
    module = _narrow(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    calibrate_batch_norm(module, CLIP)
    changed = {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert {key.rpartition(".")[2] for key in changed} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
        "bias",
    }
    assert all(before[key].ndim < 2 for key in changed)
    assert not any(layer.training for layer in module.modules())
    sizes: list[float] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight, bias = (layer.get_parameter(name)[:, None, None, None] for name in ("weight", "bias"))
        normalized = (output - bias) / weight
        sizes.append(float(normalized.square().mean().sqrt()))

    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.register_forward_hook(look)
    with torch.no_grad():
        module(torch.from_numpy(np.concatenate(synthetic_clips(CLIP, 8, seed=5))))
    assert len(sizes) > 10
    assert all(0.3 < size < 3 for size in sizes)


def test_a_module_without_norms_is_left_alone() -> None:
    module = nn.Sequential(nn.Conv3d(3, 4, 1), nn.ReLU())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    calibrate_batch_norm(module, CLIP)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
