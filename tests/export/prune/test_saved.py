"""Pruned weights on disk: a single file suffices to load, export, fine-tune and prune again."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from edgeact.errors import ModelError
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.checkpoint import ModelCard, write_weights
from edgeact.export.models.loading import LoadRequest, load_model
from edgeact.export.prune import PruneRequest, apply_plan, plan_pruning
from edgeact.export.train.plan import TrainPlan
from edgeact.export.train.train import TrainRequest, train
from tests.export.prune.networks import CLIP, WIDTH, calibrated, clips
from tests.messages import names

LABELS = tuple("abcde")


def saved(formula: str, file: Path, *ratios: float) -> torch.nn.Module:
    """A model that was pruned once or several times and written."""
    module = copy.deepcopy(calibrated(formula))
    card = ModelCard(model=formula, width=WIDTH, labels=LABELS, clip=CLIP, provenance={"data": "none"})
    for number, ratio in enumerate(ratios):
        plan = plan_pruning(module, CLIP.input_shape, PruneRequest(ratio), f"{number}" * 64)
        apply_plan(module, plan)
        card = card.pruned_by(plan)
    write_weights(file, module, card)
    return module


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("formula", ["msf-r3d-fsam", "3drfnet-18", "resnext3d-101"])
def test_pruned_again_and_again_a_model_tells_its_lineage(formula: str, tmp_path: Path) -> None:
    module = saved(formula, tmp_path / "w.safetensors", 0.25, 0.3)
    loaded = load_model(formula, LoadRequest(weights=tmp_path / "w.safetensors"))
    assert torch.equal(loaded.module(clips()), module(clips()))
    assert loaded.provenance["pruned_from_weights"] == f"{'0' * 64}; {'1' * 64}"
    assert loaded.provenance["pruning_ratio"] == "0.25; 0.3"
    assert loaded.provenance["data"] == "none"


@pytest.mark.slow
def test_loading_does_not_ask_the_library(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    saved("msf-r3d-fsam", file, 0.5)
    code = (
        "import sys; from pathlib import Path; from edgeact.export.models.loading import LoadRequest, load_model\n"
        f"load_model('msf-r3d-fsam', LoadRequest(weights=Path({str(file)!r})))\n"
        "print('torch_pruning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("formula", ["msf-r3d-fsam", "se-sa-resnet18"])
def test_a_pruned_model_becomes_onnx(formula: str, tmp_path: Path) -> None:
    saved(formula, tmp_path / "w.safetensors", 0.4)
    loaded = load_model(formula, LoadRequest(weights=tmp_path / "w.safetensors"))
    session = onnxruntime.InferenceSession(to_bytes(to_onnx(loaded.module, CLIP)))
    x = clips(1)
    (logits,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(logits, loaded.module(x).numpy(), rtol=1e-3, atol=1e-5)


def test_another_width_or_size_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    saved("c3d", file, 0.5)
    for wrong in (LoadRequest(weights=file, width=16), LoadRequest(weights=file, size=64)):
        with pytest.raises(ModelError, check=names("as they were when it was pruned")):
            load_model("c3d", wrong)


def test_training_goes_on_from_pruned_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    module = saved("cnn3d", tmp_path / "w.safetensors", 0.5)
    data = f"stick-actions:{tmp_path}/sticks?train=24&val=0&test=0&size=64x48"
    plan = TrainPlan(epochs=1, batch_size=8)
    request = TrainRequest("cnn3d", data, tmp_path / "tuned.safetensors", plan, init=tmp_path / "w.safetensors")
    card = train(request)
    loaded = load_model("cnn3d", LoadRequest(weights=request.out))
    assert len(card.pruning) == 1
    assert card.provenance["pruned_from_weights"] == "0" * 64
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items() if "head.4" not in name}
    assert shapes == {name: loaded.module.state_dict()[name].shape for name in shapes}
