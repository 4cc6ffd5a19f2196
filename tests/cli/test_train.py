"""`edgeact train` as a user runs it: weights out, results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from edgeact.cli.main import main
from edgeact.export.models.checkpoint import read_weights
from tests.export.models.checkpoints import filled, hara

SMALL = ("--width", "4", "--clip-frames", "4", "--size", "32", "--resize", "36x40", "--fps", "6", "--epochs", "1")


def _edgeact(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["edgeact", "train", *arguments])
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    return f"stick-actions:{tmp_path / 'sticks'}?train=24&val=12&test=0&size=64x48"


def test_a_model_is_trained(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "w.safetensors"
    assert _edgeact(monkeypatch, "cnn3d", "--data", data, "--out", str(out), *SMALL) == 0
    card = read_weights(out).card
    assert card is not None
    assert (card.clip.resize, card.clip.crop, card.width) == ((36, 40), (32, 32), 4)
    shown = capsys.readouterr()
    assert f"validation top-1 {card.provenance['validation_top1']}" in shown.out
    assert "epoch 1/1: loss" in shown.err
    assert f"wrote {out}" in shown.err


def test_what_did_not_come_from_a_checkpoint_is_stated(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(filled(hara("resnet3d-18", 4)), tmp_path / "r3d18.pth")
    arguments = ("--data", data, "-o", str(tmp_path / "w.safetensors"), "--init", str(tmp_path / "r3d18.pth"), *SMALL)
    assert _edgeact(monkeypatch, "resnet3d-18+eam?stages=4", *arguments) == 0
    shown = capsys.readouterr().err
    assert "new, untrained: stages.3.2.gates.s.conv.weight, stages.3.2.gates.t.conv.weight" in shown
    assert "not from the file: classifier, trained anew for 12 classes" in shown


def test_json_is_the_card_alone(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "w.safetensors"
    arguments = ("cnn3d-gate", "--data", data, "-o", str(out), *SMALL, "--single-frame", "--flip", "--json")
    assert _edgeact(monkeypatch, *arguments) == 0
    card = read_weights(out).card
    assert card is not None
    assert json.loads(capsys.readouterr().out) == json.loads(card.model_dump_json())
    assert card.provenance["frames"] == "single"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("cnn3", "-o", "w.safetensors"), 2, "did you mean cnn3d"),
        (("cnn3d", "-o", "w.pt"), 2, "expected --out FILE.safetensors"),
        (("cnn3d", "-o", "w.safetensors", "--resize", "128"), 2, "expected --resize HEIGHTxWIDTH in pixels"),
        (("cnn3d", "-o", "w.safetensors", "--lr", "0"), 2, "positive learning rate"),
        (("cnn3d", "-o", "w.safetensors", "--init", "gone.safetensors"), 6, "do not exist"),
    ],
)
def test_wrong_calls_end_in_one_line_and_their_code(
    arguments: tuple[str, ...],
    code: int,
    says: str,
    data: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _edgeact(monkeypatch, *arguments, "--data", data) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert says in shown.err
    assert "Traceback" not in shown.err
