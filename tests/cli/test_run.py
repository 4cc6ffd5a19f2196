"""`edgeact run`: what goes where, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeact.cli.main import app
from edgeact.errors import UnknownNameError, VideoError
from edgeact.runtime import Recognizer
from edgeact.video import write_video
from tests.runtime.making import LABELS, ArtifactSpec, colored, make_bundle


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    return str(make_bundle(tmp_path / "tiny.edgeact").path)


@pytest.fixture
def video(tmp_path: Path) -> str:
    """Two windows of red, one of green."""
    path = tmp_path / "colours.mp4"
    frames = np.concatenate([colored(channel, 12, (48, 64)) for channel in (0, 0, 1)])
    write_video(path, frames, 24.0)
    return str(path)


def test_json_gives_one_line_a_window_and_a_summary(bundle: str, video: str) -> None:
    result = CliRunner().invoke(app, ["run", bundle, video, "--json", "--top", "2"])
    assert result.exit_code == 0, result.output
    *windows, summary = [json.loads(line) for line in result.stdout.splitlines()]
    assert [window["top"][0]["label"] for window in windows] == ["red", "red", "green"]
    assert [window["index"] for window in windows] == [0, 1, 2]
    assert [window["start_s"] for window in windows] == [0.0, 0.5, 1.0]
    assert all(len(window["top"]) == 2 and window["inference_ms"] > 0 for window in windows)
    assert summary["kind"] == "summary"
    assert summary["top"][0]["label"] == "red"
    mean = np.mean([window["top"][0]["score"] for window in windows[:2]]) * 2 / 3
    assert summary["top"][0]["score"] == pytest.approx(mean, abs=0.01)
    assert (summary["windows"], summary["backend"], summary["device"]) == (3, "onnxruntime", "CPU")


def test_people_read_lines_and_a_closing_one(bundle: str, video: str) -> None:
    result = CliRunner().invoke(app, ["run", bundle, video], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert "0.00 - 0.50 s" in lines[0]
    assert "red" in lines[0]
    assert "red" in lines[3]
    assert "mean of 3 windows" in lines[3]


def test_it_stops_after_that_many_windows(bundle: str, video: str) -> None:
    result = CliRunner().invoke(app, ["run", bundle, video, "--json", "--max-windows", "1"])
    assert len(result.stdout.splitlines()) == 2


def test_a_fallback_is_reported_on_standard_error(tmp_path: Path, video: str) -> None:
    ways = [ArtifactSpec("jetson", ("tensorrt",)), ArtifactSpec("cpu", ("onnxruntime",))]
    path = make_bundle(tmp_path / "two.edgeact", ways).path
    result = CliRunner().invoke(app, ["run", str(path), video, "--json"], env={"COLUMNS": "500"})
    assert result.exit_code == 0
    assert "running cpu on onnxruntime" in result.stderr
    assert all(json.loads(line) for line in result.stdout.splitlines())


def test_an_interrupt_ends_with_the_summary(bundle: str, video: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Recognizer.predict
    calls = []

    def interrupted(self: Recognizer, frames: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, frames)  # type: ignore[arg-type]

    monkeypatch.setattr(Recognizer, "predict", interrupted)
    result = CliRunner().invoke(app, ["run", bundle, video, "--json"])
    assert result.exit_code == 130
    assert json.loads(result.stdout.splitlines()[-1])["windows"] == 2


@pytest.mark.parametrize(
    ("arguments", "error"), [(["--backend", "openvin"], UnknownNameError), (["--artifact", "fp23"], UnknownNameError)]
)
def test_unknown_names(bundle: str, video: str, arguments: list[str], error: type) -> None:
    result = CliRunner().invoke(app, ["run", bundle, video, *arguments])
    assert isinstance(result.exception, error)


def test_no_video(bundle: str, tmp_path: Path) -> None:
    assert isinstance(CliRunner().invoke(app, ["run", bundle, str(tmp_path / "none.mp4")]).exception, VideoError)


def test_the_console_script_ends_with_the_errors_code(bundle: str) -> None:
    command = [sys.executable, "-c", "from edgeact.cli import main; main()", "run", bundle, "none.mp4", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (4, "")
    assert "none.mp4" in done.stderr


def test_the_live_view_shows_bars(bundle: str, video: str) -> None:
    """In a terminal the view is redrawn in place; FORCE_COLOR makes rich believe in one."""
    result = CliRunner().invoke(app, ["run", bundle, video], env={"FORCE_COLOR": "1", "COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "clips/s at most" in result.stdout
    assert all(label in result.stdout for label in LABELS)
    assert "━" in result.stdout


def test_what_the_source_tells_goes_to_standard_error(bundle: str, tmp_path: Path) -> None:
    write_video(tmp_path / "slow.mp4", colored(0, 12, (48, 64)), 4.0)
    result = CliRunner().invoke(app, ["run", bundle, str(tmp_path / "slow.mp4")], env={"COLUMNS": "500"})
    assert result.stderr.count("the model was trained at 8") == 1


@pytest.mark.parametrize("source", ["77", "rtsp://127.0.0.1:9/x"])
def test_a_camera_that_is_not_there_is_one_line(bundle: str, source: str) -> None:
    """OpenCV and FFmpeg have pages to say about it."""
    command = [sys.executable, "-c", "from edgeact.cli import main; main()", "run", bundle, source]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == VideoError.exit_code
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: cannot open ")
