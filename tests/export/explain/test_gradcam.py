"""Grad-CAM against what it must be: of a linear probe in closed form, and that every model yields one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgeact.errors import ModelError
from edgeact.export.explain.gradcam import grad_cam
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.registry import MODELS
from tests.export.explain.making import Probe
from tests.messages import names


@pytest.mark.parametrize("index", [None, 0, 1, 2])
def test_of_a_linear_probe_it_is_the_classifiers_map(index: int | None) -> None:
    module, clip = Probe(), torch.randn(1, 3, 4, 6, 5)
    cam = grad_cam(module, clip, index)
    with torch.no_grad():
        features, logits = module.conv(clip), module(clip)
    assert cam.index == (int(logits.argmax()) if index is None else index)
    wanted = (
        torch.relu(torch.einsum("c,cthw->thw", module.classifier.weight[cam.index], features[0]))
        / features[0, 0].numel()
    )
    np.testing.assert_allclose(cam.map, wanted.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(cam.logits, logits[0].numpy(), atol=1e-6)


def test_it_looks_before_the_last_pooling() -> None:
    module = nn.Sequential(nn.Conv3d(3, 4, 1), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(4 * 2 * 2 * 2, 3))
    cam = grad_cam(module, torch.randn(1, 3, 4, 4, 4))
    assert cam.layer == "0"
    assert cam.map.shape == (4, 4, 4)


def test_it_leaves_the_module_as_it_was() -> None:
    module = Probe().eval()
    grad_cam(module, torch.randn(1, 3, 2, 4, 4))
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(layer._forward_hooks for layer in module.modules())


def test_a_network_without_such_activations_is_refused() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 4 * 4, 2))
    with pytest.raises(ModelError, check=names("expected a layer with an output (1, C, T, H, W), got none")):
        grad_cam(module, torch.randn(1, 3, 2, 4, 4))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_yields_one_at_its_last_stage(name: str) -> None:
    torch.manual_seed(0)
    options = NetworkConfig(3, 4, 4, (48, 48))
    cam = grad_cam(MODELS[name].build(options).eval(), torch.randn(options.input_shape))
    assert cam.layer.startswith(("stages", "gate"))
    assert cam.map.ndim == 3
    assert bool(np.isfinite(cam.map).all())
    assert float(cam.map.min()) >= 0
