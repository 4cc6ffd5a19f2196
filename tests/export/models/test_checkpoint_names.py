"""Checkpoints of torchvision and 3D-ResNets-PyTorch: every tensor in its place, and every one that has none named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgeact.errors import WeightsError
from edgeact.export.models.checkpoint import Checkpoint
from edgeact.export.models.checkpoint_names import trained_clip, with_our_names
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from edgeact.export.models.registry import MODELS, find_model
from edgeact.loading_notes import MissingCounters, ReleaseByClasses, UntrainedLayers
from edgeact.phrases import phrase
from tests.export.models.checkpoints import HARA_DEPTHS, Shapes, filled, hara, torchvision_r3d_18
from tests.messages import names

_SMALL = {"width": 4, "clip_frames": 2, "size": 16}
_TABLES = {"r3d-18": torchvision_r3d_18(), **{name: hara(name) for name in HARA_DEPTHS}}


def _weights(tensors: dict[str, Tensor]) -> Checkpoint:
    return Checkpoint(tensors=tensors, card=None, sha256="", path=Path("w.pth"))


def _narrow(model: str, classes: int = 400) -> dict[str, Tensor]:
    return filled(torchvision_r3d_18(4, classes) if model == "r3d-18" else hara(model, 4, classes))


def _load(model: str, state: dict[str, Tensor], folder: Path, **request: object) -> LoadedModel:
    torch.save({"epoch": 3, "arch": "x", "state_dict": {f"module.{key}": value for key, value in state.items()}},
               folder / "w.pth")  # fmt: skip
    return load_model(model, LoadRequest(weights=folder / "w.pth", **{**_SMALL, **request}))  # type: ignore[arg-type]


@pytest.mark.parametrize("model", _TABLES)
def test_every_name_has_its_place_and_its_shape_at_full_width(model: str) -> None:
    spec = MODELS[model]
    with torch.device("meta"):
        own = spec.build(spec.config(400)).state_dict()
        ours = with_our_names(_weights({name: torch.empty(shape) for name, shape in _TABLES[model].items()})).tensors
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: tensor.shape for name, tensor in own.items()}


def test_r3d_18_has_torchvisions_parameters() -> None:
    learned = {name: shape for name, shape in torchvision_r3d_18().items() if "running" not in name}
    assert sum(math.prod(shape) for shape in learned.values() if shape) == 33_371_472


@pytest.mark.parametrize(
    ("model", "theirs", "ours"),
    [
        ("r3d-18", "stem.1.running_var", "stem.1.running_var"),
        ("r3d-18", "layer1.0.conv1.0.weight", "stages.0.0.conv1.0.weight"),
        ("r3d-18", "layer4.1.conv2.1.running_mean", "stages.3.1.conv2.1.running_mean"),
        ("r3d-18", "layer2.0.downsample.1.bias", "stages.1.0.shortcut.1.bias"),
        ("r3d-18", "fc.bias", "classifier.bias"),
        ("resnet3d-18", "conv1.weight", "stem.0.weight"),
        ("resnet3d-18", "bn1.num_batches_tracked", "stem.1.num_batches_tracked"),
        ("resnet3d-18", "layer3.1.bn2.running_var", "stages.2.1.conv2.1.running_var"),
        ("resnet3d-50", "layer1.0.downsample.0.weight", "stages.0.0.shortcut.0.weight"),
        ("resnet3d-50", "layer3.5.conv3.weight", "stages.2.5.conv3.0.weight"),
        ("resnext3d-101", "layer3.22.conv2.weight", "stages.2.22.conv2.0.weight"),
        ("resnext3d-101", "fc.weight", "classifier.weight"),
    ],
)
def test_values_come_to_their_places(model: str, theirs: str, ours: str, tmp_path: Path) -> None:
    state = _narrow(model)
    loaded = _load(model, state, tmp_path)
    assert torch.equal(loaded.module.state_dict()[ours], state[theirs])
    found = sorted(tensor.double().sum().item() for tensor in loaded.module.state_dict().values())
    assert found == sorted(tensor.double().sum().item() for tensor in state.values())
    assert (len(loaded.labels), loaded.trained) == (400, True)
    assert loaded.provenance == {"weights": "; ".join(map(phrase, loaded.notes))}
    assert not any(isinstance(note, UntrainedLayers | MissingCounters) for note in loaded.notes)


@pytest.mark.parametrize("model", ["r3d-18+fsam", "resnet3d-50+eam", "resnext3d-101+cbam?stages=4"])
def test_attention_is_new_and_named(model: str, tmp_path: Path) -> None:
    backbone = model.partition("+")[0]
    state = _narrow(backbone)
    loaded = _load(model, state, tmp_path)
    own = loaded.module.state_dict()
    new = set(own) - set(with_our_names(_weights(state)).tensors)
    (note,) = (note for note in loaded.notes if isinstance(note, UntrainedLayers))
    assert new
    assert set(note.tensors) == new
    assert phrase(note) in loaded.provenance["weights"]
    untrained = LoadRequest(random_weights=True, labels=loaded.labels, width=4, clip=loaded.clip)
    fresh = load_model(model, untrained).module.state_dict()
    assert all(torch.equal(own[name], fresh[name]) for name in new)


def test_counters_that_old_files_lack_remain_at_zero(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in _narrow("resnet3d-50").items() if "batches" not in name}
    loaded = _load("resnet3d-50", state, tmp_path)
    assert MissingCounters(count=53, name="num_batches_tracked") in loaded.notes
    assert int(loaded.module.state_dict()["stem.1.num_batches_tracked"]) == 0


def test_shortcuts_without_parameters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, check=names("shortcuts without parameters (type A", "expected projections (type B)")
    ):
        _load("resnet3d-18", filled(hara("resnet3d-18", 4, shortcut="A")), tmp_path)


def _wrong(shapes: Shapes, **changes: tuple[int, ...] | None) -> dict[str, Tensor]:
    return filled({name: shape for name, shape in {**shapes, **changes}.items() if shape is not None})


_MISFITS = {
    "another depth": ("resnet3d-18", filled(hara("resnet3d-50", 4))),
    "shortcuts everywhere": ("resnet3d-50", filled(hara("resnet3d-50", 4, shortcut="C"))),
    "another package": ("resnet3d-18", filled(torchvision_r3d_18(4))),
    "another width": ("resnext3d-101", filled(hara("resnext3d-101", 8))),
    "a lost tensor": ("r3d-18", _wrong(torchvision_r3d_18(4), **{"layer2.1.conv1.0.weight": None})),
    "an added tensor": ("r3d-18", _wrong(torchvision_r3d_18(4), **{"layer2.1.conv1.0.0.weight": (4,)})),
    "another shape": ("r3d-18", _wrong(torchvision_r3d_18(4), **{"layer2.1.conv1.0.weight": (8, 8, 1, 3, 3)})),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", _MISFITS)
def test_each_tensor_that_does_not_fit_is_named(case: str, tmp_path: Path) -> None:
    model, state = _MISFITS[case]
    spec = MODELS[model]
    with pytest.raises(WeightsError, check=names("do not fit the model")) as caught:
        _load(model, state, tmp_path)
    own = spec.build(spec.config(400, width=4)).state_dict()
    ours = with_our_names(_weights(state)).tensors
    misfits = {
        name for name in {*own, *ours} if name not in own or name not in ours or own[name].shape != ours[name].shape
    }
    assert misfits
    assert all(name in str(caught.value) for name in misfits)
    assert "..." not in str(caught.value)


def test_labels_of_another_count_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, check=names("have 400 classes, but 2 labels were given", "edgeact train --init")):
        _load("resnet3d-18", _narrow("resnet3d-18"), tmp_path, labels=("a", "b"))


@pytest.mark.parametrize(("classes", "std"), [(400, 1 / 255), (101, 1 / 255), (700, 0.2768), (1039, 0.2768)])
def test_pixels_are_scaled_as_the_release_did(classes: int, std: float, tmp_path: Path) -> None:
    loaded = _load("resnet3d-50", _narrow("resnet3d-50", classes), tmp_path)
    assert loaded.clip.std[0] == std
    assert ReleaseByClasses(release="2018" if std < 0.01 else "2020") in loaded.notes
    assert loaded.clip.input_shape == (1, 3, 2, 16, 16)
    clip = MODELS["r3d-18"].clip
    assert _load("resnet3d-50", _narrow("resnet3d-50", classes), tmp_path, clip=clip).clip.std == clip.std


@pytest.mark.parametrize("model", MODELS)
def test_names_are_left_alone(model: str) -> None:
    spec = find_model(model)
    with torch.device("meta"):
        weights = _weights(spec.build(spec.config(7, width=4)).state_dict())
    assert with_our_names(weights) is weights
    assert trained_clip(weights, spec.clip) is spec.clip
