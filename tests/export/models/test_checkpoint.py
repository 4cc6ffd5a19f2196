"""Checkpoint on disk: what is written comes back, and files that are broken, foreign or hostile are refused."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from edgeact.errors import WeightsError
from edgeact.export.models.checkpoint import (
    Checkpoint,
    ModelCard,
    file_sha256,
    load_weights,
    read_weights,
    shipped_weights,
    write_weights,
)
from edgeact.export.models.registry import MODELS
from tests.messages import names

CARD = ModelCard(model="cnn3d", width=4, labels=("a", "b"), clip=MODELS["cnn3d"].clip, provenance={"data": "none"})


def _module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4))


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    write_weights(tmp_path / "w.safetensors", _module(), CARD)
    weights = read_weights(tmp_path / "w.safetensors")
    assert weights.card == CARD
    assert weights.sha256 == file_sha256(weights.path)
    module = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4))
    load_weights(module, weights)
    assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in _module().state_dict().items())


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_weights(tmp_path / f"{name}.safetensors", _module(), CARD)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("wrap", ["state_dict", "model_state_dict", "model", None])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_foreign_checkpoints_are_read(wrap: str | None, prefix: str, suffix: str, tmp_path: Path) -> None:
    state = {prefix + name: tensor for name, tensor in _module().state_dict().items()}
    torch.save({wrap: state, "epoch": 3} if wrap else state, tmp_path / f"w{suffix}")
    weights = read_weights(tmp_path / f"w{suffix}")
    assert weights.card is None
    assert set(weights.tensors) == set(_module().state_dict())


class _Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_checkpoint_is_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    torch.save({"w": torch.zeros(1), "x": _Hostile(ran)}, tmp_path / "w.pt", pickle_protocol=protocol)
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(_Hostile(ran), protocol))
    for name in ("w.pt", "raw.pt"):
        with pytest.raises(WeightsError, check=names("pickled code", "never run", "torch.save(model.state_dict(),")):
            read_weights(tmp_path / name)
    assert not ran.exists()


def test_a_whole_model_is_refused_in_one_plain_line(tmp_path: Path) -> None:
    torch.save(_module(), tmp_path / "whole.pth")
    with pytest.raises(WeightsError, check=names("a whole model")) as caught:
        read_weights(tmp_path / "whole.pth")
    assert str(caught.value).isprintable()  # torch's own words come with colours


def _nan(path: Path) -> Path:
    save_file({"good": torch.zeros(2), "bad": torch.tensor([1.0, float("nan")])}, path / "w.safetensors")
    return path / "w.safetensors"


def _infinite(path: Path) -> Path:
    torch.save({"bad": torch.tensor([float("-inf")])}, path / "w.pt")
    return path / "w.pt"


def _garbage(path: Path) -> Path:
    (path / "w.safetensors").write_bytes(b"\xff" * 100)
    return path / "w.safetensors"


def _foreign_card(path: Path) -> Path:
    save_file({"w": torch.zeros(2)}, path / "w.safetensors", metadata={"edgeact": '{"schema_version": "9.0"}'})
    return path / "w.safetensors"


def _list(path: Path) -> Path:
    torch.save([torch.zeros(1)], path / "w.pt")
    return path / "w.pt"


def _optimizer(path: Path) -> Path:
    torch.save({"w": torch.zeros(1), "optimizer": {"lr": 0.1}}, path / "w.pt")
    return path / "w.pt"


def _empty(path: Path) -> Path:
    (path / "w.pt").write_bytes(b"")
    return path / "w.pt"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda path: path / "w.pt", "do not exist; expected a .safetensors, .pt or .pth file"),
    "suffix": (lambda _: Path(__file__), "expected a .safetensors, .pt or .pth file, got '.py'"),
    "nan": (_nan, "tensor 'bad' holds NaN or infinity"),
    "infinity": (_infinite, "tensor 'bad' holds NaN or infinity"),
    "garbage": (_garbage, "not readable as safetensors"),
    "card": (_foreign_card, "model card this version cannot read"),
    "list": (_list, "expected a state dict of tensors, got list"),
    "optimizer": (_optimizer, "got dict in 'optimizer'"),
    "empty": (_empty, "not a plain state dict"),
}


@pytest.mark.parametrize("name", BAD)
def test_unreadable_weights_file_is_refused(name: str, tmp_path: Path) -> None:
    make, says = BAD[name]
    with pytest.raises(WeightsError, check=names(says)):
        read_weights(make(tmp_path))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from([".pt", ".safetensors"]), data=st.data())
def test_damaged_files_never_end_in_a_traceback(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    """Cut short or with bytes changed, a file is refused or, where the change spares the structure, read."""
    path = tmp_path / f"w{suffix}"
    if suffix == ".pt":
        torch.save(_module().state_dict(), path)
    else:
        write_weights(path, _module(), CARD)
    content = bytearray(path.read_bytes())
    end = data.draw(st.integers(0, len(content)))
    del content[end:]
    for place in data.draw(st.lists(st.integers(0, max(end - 1, 0)), max_size=3)):
        if content:
            content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with contextlib.suppress(WeightsError):
        read_weights(path)


def test_what_does_not_fit_is_listed() -> None:
    tensors = {"0.weight": torch.zeros(4, 3, 1, 1, 2), "0.bias": torch.zeros(4), "9.extra": torch.zeros(1)}
    weights = Checkpoint(tensors=tensors, card=None, sha256="", path=Path("w.pt"))
    with pytest.raises(WeightsError) as caught:
        load_weights(_module(), weights)
    message = str(caught.value)
    assert "missing (5) 1.bias, 1.num_batches_tracked, 1.running_mean, 1.running_var, 1.weight" in message
    assert "unexpected (1) 9.extra" in message
    assert "other shapes (1) 0.weight: expected (4, 3, 1, 1, 1), got (4, 3, 1, 1, 2)" in message
    assert "check the model's name, width" in message


def test_long_lists_are_cut() -> None:
    weights = Checkpoint(tensors={f"x{i}": torch.zeros(1) for i in range(9)}, card=None, sha256="", path=Path("w.pt"))
    with pytest.raises(WeightsError, check=names("unexpected (9) x0, x1, x2, x3, x4, ...")):
        load_weights(nn.Identity(), weights)


def test_shipped_weights_are_of_registry_models_and_carry_their_card() -> None:
    for name, path in shipped_weights().items():
        card = read_weights(path).card
        assert card is not None
        assert card.model == name
        assert name in MODELS
