"""`edgeact attention`: a picture from shipped weights, its numbers, and errors with their exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest

from edgeact.cli import main
from edgeact.export.models.checkpoint import shipped_weights
from tests.export.videos import moving_bars


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(moving_bars(tmp_path_factory.mktemp("videos"), 1, frames=72)[0].path)


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "argv", ["edgeact", "attention", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_a_sheet_and_a_table(
    video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.png"
    assert _run(monkeypatch, "msf-r3d-fsam", video, "-o", str(out)) == 0
    shown = capsys.readouterr()
    assert f"wrote {out}" in shown.err.replace("\n", "")
    rows = [line.split()[:3] for line in shown.out.splitlines() if "attention" in line]
    assert rows == [[stage, kind, "attention"] for stage in "34" for kind in ("frequency", "space-time")]
    assert cv2.imread(str(out)) is not None


@pytest.mark.slow
def test_json_has_every_number_and_nothing_else(
    video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = shipped_weights()["cnn3d-gate"]
    assert _run(monkeypatch, str(weights), video, "-o", str(tmp_path / "a.mp4"), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"] == "cnn3d-gate"
    assert [round(clip["start_s"], 3) for clip in document["clips"]] == [0.0, 1.333]
    (gate,) = document["clips"][0]["modules"]
    assert (len(gate["channels"]), len(gate["frames"])) == (32, 16)
    assert sum(gate["channels"]) / 32 == pytest.approx(sum(gate["frames"]) / 16, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("r3d-18", "VIDEO", "-o", "a.png"), (2, "no weights are shipped for 'r3d-18'")),
        (("msf-r3d-fsam", "VIDEO", "-o", "a.gif"), (2, "expected a picture .png or .mp4")),
        (("msf-r3d-fsam", "gone.mp4", "-o", "a.png"), (4, "gone.mp4")),
        (("gone.safetensors", "VIDEO", "-o", "a.png"), (6, "do not exist")),
    ],
)
def test_errors_are_one_line_with_their_code(
    arguments: tuple[str, ...],
    expected: tuple[int, str],
    video: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run(monkeypatch, *(video if word == "VIDEO" else word for word in arguments)) == expected[0]
    shown = capsys.readouterr()
    assert expected[1] in shown.err
    assert not shown.out
    assert list(tmp_path.iterdir()) == []
