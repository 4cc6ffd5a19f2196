"""The door for models: registry names, users' factories and modules; what comes in, and how the rest is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgeact.errors import EdgeactError, ModelError, UnknownNameError, UsageError, WeightsError
from edgeact.export.models.checkpoint import ModelCard, write_weights
from edgeact.export.models.loading import LoadRequest, load_model
from edgeact.export.models.registry import MODELS
from edgeact.export.models.spec import Pixels, resized_clip
from edgeact.loading_notes import AssumedClip
from edgeact.phrases import phrase
from tests.export.models.factories import Tiny, tiny
from tests.messages import names

FACTORIES = "tests.export.models.factories"
LABELS = ("up", "down", "left")
SMALL = LoadRequest(random_weights=True, width=4, clip_frames=2, size=16)


def _small(name: str, classes: int = len(LABELS)) -> nn.Module:
    spec = MODELS[name]
    clip = resized_clip(spec.clip, clip_frames=4, size=32)
    torch.manual_seed(3)
    return spec.build(spec.config(classes, width=4, clip=clip))


def _carded(path: Path, name: str) -> Path:
    clip = resized_clip(MODELS[name].clip, clip_frames=4, size=32)
    card = ModelCard(model=name, width=4, labels=LABELS, clip=clip, provenance={"data": "own"})
    write_weights(path, _small(name), card)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_registry_models_build_with_random_weights(name: str) -> None:
    loaded = load_model(name, SMALL)
    assert (loaded.name, loaded.trained, len(loaded.labels)) == (name, False, 101)
    assert not loaded.module.training
    assert "random" in loaded.provenance["weights"]
    assert loaded.clip.input_shape == (1, 3, 2, 16, 16)
    again = load_model(name, SMALL)
    assert loaded.weights_sha256 == again.weights_sha256
    assert loaded.weights_sha256 != load_model(name, LoadRequest(**{**SMALL.__dict__, "seed": 1})).weights_sha256


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_card_says_all_that_is_needed(name: str, tmp_path: Path) -> None:
    loaded = load_model(name, LoadRequest(weights=_carded(tmp_path / "w.safetensors", name)))
    assert (loaded.labels, loaded.options, loaded.trained) == (LABELS, {"width": 4}, True)
    assert loaded.clip.input_shape == (1, 3, 4, 32, 32)
    assert loaded.provenance == {"data": "own"}
    expected = _small(name).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.module.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_without_a_card_classes_are_counted_by_the_classifier(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    state = _small(name).state_dict()
    if suffix == ".pt":
        torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    else:
        save_file(state, path)
    loaded = load_model(name, LoadRequest(weights=path, width=4, clip_frames=4, size=32))
    assert loaded.labels == ("class 0", "class 1", "class 2")
    assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.module.state_dict().items())


@pytest.mark.parametrize(
    "source", [f"{FACTORIES}:tiny", f"{FACTORIES}:Tiny", tiny()], ids=["function", "class", "module"]
)
def test_a_users_module(source: str | nn.Module) -> None:
    loaded = load_model(source, LoadRequest(clip_frames=4, size=32, labels=("a", "b", "c", "d")))
    assert (loaded.labels, loaded.trained) == (("a", "b", "c", "d"), True)
    assert loaded.name.lower() == "tiny"
    assert not loaded.module.training
    assert len(load_model(source, LoadRequest(clip_frames=2, size=16)).labels) == 4


def test_what_is_assumed_of_a_users_clip_is_reported() -> None:
    loaded = load_model(tiny(), LoadRequest(clip_frames=4, size=56, fps=12.5))
    note = AssumedClip(clip=loaded.clip, options=("--resize", "--mean", "--std", "--channel-order"))
    assert loaded.notes == (note,)
    text = phrase(note)
    assert text.startswith("assumed clip: 4 frames at 12.5/s, resize 64x86, crop 56x56, rgb, mean 0.43216, ")
    assert text.endswith("; set --resize, --mean, --std, --channel-order if the model was trained otherwise")


def test_a_users_clip_is_taken_as_stated() -> None:
    pixels = Pixels((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bgr")
    loaded = load_model(tiny(), LoadRequest(clip_frames=4, size=32, fps=25.0, resize=(36, 48), pixels=pixels))
    assert loaded.notes == ()
    assert (loaded.clip.resize, loaded.clip.crop, loaded.clip.fps) == ((36, 48), (32, 32), 25.0)
    assert (loaded.clip.mean, loaded.clip.std, loaded.clip.channel_order) == (pixels.mean, pixels.std, "bgr")
    assert load_model(tiny(), LoadRequest(clip=loaded.clip)).notes == ()


def test_a_users_weights(tmp_path: Path) -> None:
    torch.save(tiny().state_dict(), tmp_path / "own.pth")
    module = Tiny()
    loaded = load_model(module, LoadRequest(weights=tmp_path / "own.pth", clip_frames=2, size=16))
    assert loaded.module is module
    assert torch.equal(module.conv.weight, tiny().conv.weight)  # type: ignore[arg-type, union-attr]


def test_a_module_beside_the_caller_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from tests.export.models.factories import tiny\n\ndef build():\n    import helper_beside\n    return tiny()\n"
    )
    (tmp_path / "net_beside.py").write_text(code)
    (tmp_path / "helper_beside.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = list(sys.path)
    assert load_model("net_beside:build", LoadRequest(clip_frames=2, size=16)).name == "build"
    assert sys.path == before


@pytest.mark.parametrize(
    ("source", "request_", "error", "says"),
    [
        ("msf-r3d-fasm", SMALL, UnknownNameError, ("did you mean msf-r3d-fsam",)),
        ("cnn3d", LoadRequest(), UsageError, ("no weights are shipped for 'cnn3d'", "--random-weights")),
        ("cnn3d", LoadRequest(weights=Path("w.pt"), random_weights=True), UsageError, ("either weights or random",)),
        ("cnn3d", LoadRequest(random_weights=True, width=5), UsageError, ("multiple of 4, got 5",)),
        ("cnn3d", LoadRequest(random_weights=True, size=0), UsageError, ("not possible",)),
        ("no_such_package:net", SMALL, UsageError, ("cannot import 'no_such_package'", "install it")),
        (":net", SMALL, UsageError, ("expected package.module:factory, got ':net'",)),
        ("mymodels/net.py:build", SMALL, UsageError, ("path of a file in", "; write mymodels.net:build and run from")),
        ("./net.py:build", SMALL, UsageError, ("write net:build and",)),
        (f"{FACTORIES}:", SMALL, UsageError, ("expected package.module:factory",)),
        (f"{FACTORIES}:missing", SMALL, UsageError, ("has no attribute 'missing'",)),
        (f"{FACTORIES}:number", SMALL, UsageError, ("is not callable",)),
        (f"{FACTORIES}:nothing", SMALL, ModelError, ("must return a torch.nn.Module, got NoneType",)),
        (f"{FACTORIES}:raising", SMALL, ModelError, ("without arguments raised KeyError; expected a function",)),
        (f"{FACTORIES}:with_argument", SMALL, ModelError, ("raised TypeError:", "'width'")),
        (f"{FACTORIES}:dictionary", SMALL, ModelError, ("one tensor of logits (1, classes), got dict",)),
        (f"{FACTORIES}:three_maps", SMALL, ModelError, ("logits (1, classes), got (1, 4, 2, 16, 16)",)),
        (nn.Linear(5, 2), SMALL, ModelError, ("does not take a clip of shape (1, 3, 2, 16, 16)", "--clip-frames")),
        (tiny(), LoadRequest(labels=LABELS), ModelError, ("returns 4 logits, but there are 3 labels", "--labels")),
    ],
)  # fmt: skip
def test_wrong_requests_are_refused(
    source: str | nn.Module, request_: LoadRequest, error: type[EdgeactError], says: tuple[str, ...]
) -> None:
    with pytest.raises(error, check=names(*says)) as caught:
        load_model(source, request_)
    assert type(caught.value) is error


def _of_another_model(path: Path) -> LoadRequest:
    return LoadRequest(weights=_carded(path / "w.safetensors", "cnn3d"))


def _of_another_width(path: Path) -> LoadRequest:
    return LoadRequest(weights=_carded(path / "w.safetensors", "r3d-18"), width=8)


def _with_too_few_labels(path: Path) -> LoadRequest:
    return LoadRequest(weights=_carded(path / "w.safetensors", "r3d-18"), labels=("a", "b"))


def _of_no_video_model(path: Path) -> LoadRequest:
    torch.save(tiny().state_dict(), path / "w.pt")
    return LoadRequest(weights=path / "w.pt")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_of_another_model, ("are of 'cnn3d', expected 'r3d-18'",)),
        (_of_another_width, ("other shapes", "expected (8, 8, 3, 3, 3), got (4, 4, 3, 3, 3)")),
        (_with_too_few_labels, ("have 3 classes, but 2 labels", "one line per class")),
        (_of_no_video_model, ("expected its classifier 'classifier.weight'", ", got conv.weight, conv.bias")),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    make: Callable[[Path], LoadRequest], says: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, check=names(*says)):
        load_model("r3d-18", make(tmp_path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_modules_that_are_not_finite_are_refused(value: float) -> None:
    module = Tiny()
    nn.init.constant_(module.conv.weight, value)
    with pytest.raises(WeightsError, check=names("tensor 'conv.weight' holds NaN or infinity")):
        load_model(module, SMALL)
