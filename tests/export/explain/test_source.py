"""Whatever the user names leads to the right weights, or to an error that says what to give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgeact.bundle import write_bundle
from edgeact.errors import EdgeactError, UnknownNameError, UsageError, WeightsError
from edgeact.export.explain.source import open_model
from edgeact.export.models.checkpoint import ModelCard, file_sha256, shipped_weights, write_weights
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.registry import find_model
from tests.bundle import making
from tests.export.explain.making import CLIP
from tests.messages import names

_LABELS = ("a", "b", "c")
_MODEL = "cnn3d+se?reduction=2"


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Weights as `edgeact train` writes them, of a combination with no row of its own."""
    torch.manual_seed(3)
    module = find_model(_MODEL).build(NetworkConfig(3, 8, CLIP.clip_frames, CLIP.crop))
    path = tmp_path / "own.safetensors"
    write_weights(path, module, ModelCard(model=_MODEL, width=8, labels=_LABELS, clip=CLIP))
    return path


def _bundle(path: Path, digest: str, source: str = _MODEL) -> str:
    """A bundle of that model, which records that digest."""
    draft = making.draft()
    model = draft.model.model_copy(
        update={
            "name": source,
            "source": source,
            "weights_sha256": digest,
            "options": {"width": 8},
            "provenance": {"data": "folder:/clips"},
        }
    )
    changed = draft.model_copy(update={"model": model, "labels": _LABELS, "clip": CLIP, "golden": None})
    write_bundle(path, changed, making.MEMBERS)
    return str(path)


def test_weights_say_what_they_are_of(trained: Path) -> None:
    loaded = open_model(str(trained))
    assert (loaded.name, loaded.labels, loaded.clip) == (_MODEL, _LABELS, CLIP)
    assert loaded.weights_sha256 == file_sha256(trained)


@pytest.mark.parametrize("name", shipped_weights())
def test_a_shipped_model_needs_no_more(name: str) -> None:
    assert open_model(name).weights_sha256 == file_sha256(shipped_weights()[name])


def test_a_formula_finds_the_weights_of_its_row() -> None:
    assert open_model("msf-r3d+fsam").name == "msf-r3d-fsam"


def test_a_model_takes_weights_of_itself(trained: Path) -> None:
    assert open_model(_MODEL, trained).weights_sha256 == file_sha256(trained)


def test_a_bundle_takes_the_weights_it_was_made_from(trained: Path, tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "own.edgeact", file_sha256(trained))
    loaded = open_model(bundle, trained)
    assert (loaded.name, loaded.labels, loaded.weights_sha256) == (_MODEL, _LABELS, file_sha256(trained))


def test_a_bundle_of_shipped_weights_finds_them(tmp_path: Path) -> None:
    shipped = open_model("cnn3d-gate")
    draft = making.draft()
    model = draft.model.model_copy(
        update={"source": "cnn3d-gate", "weights_sha256": shipped.weights_sha256, "options": {"width": 32}}
    )
    changed = draft.model_copy(update={"model": model, "labels": shipped.labels, "clip": shipped.clip, "golden": None})
    write_bundle(tmp_path / "gate.edgeact", changed, making.MEMBERS)
    loaded = open_model(str(tmp_path / "gate.edgeact"))
    assert all(
        torch.equal(value, loaded.module.state_dict()[key]) for key, value in shipped.module.state_dict().items()
    )


def test_other_weights_than_the_bundles_are_refused(trained: Path, tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "own.edgeact", "ab" * 32)
    with pytest.raises(WeightsError, match=r"are not those of .*expected SHA-256 abababababab.*, got [0-9a-f]{12}.*"):
        open_model(bundle, trained)
    with pytest.raises(WeightsError, check=names("'gone.safetensors' do not exist")):
        open_model(bundle, Path("gone.safetensors"))
    with pytest.raises(WeightsError, check=names("not among the shipped ones; give", "--weights FILE (data: fold")):
        open_model(bundle)


def test_code_that_a_bundle_names_is_not_run(trained: Path, tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "own.edgeact", file_sha256(trained), "tests.export.models.factories:raising")
    with pytest.raises(UsageError, check=names("whose code is not run because a bundle names it")):
        open_model(bundle, trained)


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("msf-r3d-fasm", UnknownNameError, ("did you mean msf-r3d-fsam",)),
        ("r3d-18", UsageError, ("no weights are shipped for 'r3d-18'", "give --weights FILE")),
        ("package.module:factory", UsageError, ("expected a registry model, a weights file or a bundle",)),
        ("gone.safetensors", WeightsError, ("'gone.safetensors' do not exist",)),
        ("gone.edgeact", UsageError, ("there is no file 'gone.edgeact'",)),
    ],
)
def test_what_leads_nowhere_is_refused(source: str, error: type[EdgeactError], says: tuple[str, ...]) -> None:
    with pytest.raises(error, check=names(*says)):
        open_model(source)


def test_weights_without_a_card_need_their_models_name(trained: Path, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, check=names("no model card; name their model: MODEL VIDEO --weights")):
        open_model(str(tmp_path / "bare.safetensors"))
    with pytest.raises(UsageError, check=names("expected one weights file")):
        open_model(str(trained), trained)
