"""`edgeact inspect`: everything about a bundle on one screen, or as one JSON document."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgeact.bundle import Manifest, write_bundle
from edgeact.cli import main
from edgeact.records import Measurements
from tests.bundle import making


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return making.make(tmp_path / "model.edgeact").path


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str, columns: int = 80) -> int:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "argv", ["edgeact", "inspect", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("columns", [80, 120])
def test_it_fits_one_screen(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    assert _run(monkeypatch, str(bundle), columns=columns) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= columns
    assert not shown.err
    for fact in (
        *("msf-r3d-fsam", "21.88 M parameters", "14.05 GMACs", "6: walk, run, wave", "挥手", "8 frames at 10 fps"),
        *("intel-cpu", "golden/clip.mp4", "64 clips of 48 videos", "percentile 99.99", "int8 kept", "torch 2.13.0"),
        *("tensorrt-rtx-engine", "1.2 kB", "sm 8.9, tensorrt-rtx 1.7.1, your trust", "Some CPU"),
        *("chosen", "pass", "90.0 % (", "16.1", "92.6", "fastest within the accuracy budget"),
    ):
        assert fact in shown.out


def test_json_is_the_whole_manifest_and_measurements(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, str(bundle), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document.keys() == {"digest", "manifest", "measurements"}
    assert Manifest.model_validate_json(json.dumps(document["manifest"])).labels == making.draft().labels
    assert Measurements.model_validate_json(json.dumps(document["measurements"])) == making.measurements()


def test_what_is_absent_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draft = making.draft().model_copy(
        update={
            "golden": None,
            "calibration": None,
            "decide_on_device": True,
            "labels": tuple(f"[bold]{index}" for index in range(400)),
            "decisions": tuple(f"decision {index}" for index in range(30)),
        }
    )
    path = write_bundle(tmp_path / "bare.edgeact", draft, making.MEMBERS).path
    assert _run(monkeypatch, str(path)) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= 50
    for fact in ("cannot check itself", "no INT8", "decided on the device", "400: [bold]0", "and 24 more"):
        assert fact in out
    assert "p50" not in out
    assert _run(monkeypatch, str(path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["measurements"] is None


def test_errors_are_one_line_and_an_exit_code(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, str(bundle.parent / "absent.edgeact")) == 2
    assert "there is no file" in capsys.readouterr().err
    bundle.write_bytes(bundle.read_bytes()[:-1])
    assert _run(monkeypatch, str(bundle), "--json") == 5
    shown = capsys.readouterr()
    assert "is truncated" in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not shown.out
