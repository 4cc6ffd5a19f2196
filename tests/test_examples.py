"""The scripts of examples/, run as their docstrings say, with their output checked."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import edgeact
from edgeact.bundle import open_bundle
from edgeact.records import LatencyRecord, SearchRecord
from edgeact.video import write_video
from tests.export.colours import LABELS, ColourNet, write_colours

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
RED, GREEN = (230, 20, 20), (20, 230, 20)


def _run(folder: Path, script: str, *arguments: str, code: int = 0) -> str:
    """Run a script in `folder`; return what it wrote to standard output."""
    environment = {**os.environ, "EDGEACT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, str(ROOT / "examples" / script), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clips, weights that tell their colors apart, and the bundle that the first example exports."""
    folder = tmp_path_factory.mktemp("workshop")
    write_colours(folder / "clips")
    torch.save(ColourNet().state_dict(), folder / "weights.pt")
    frames = [np.full((40, 48, 3), color, dtype=np.uint8) for color in [RED] * 24 + [GREEN] * 24]
    write_video(folder / "video.mp4", frames, 8.0)
    output = _run(folder, "export_your_module.py", "weights.pt", "clips", "colors.edgeact")
    (folder / "output.txt").write_text(output)
    return folder


@pytest.mark.slow
def test_export_your_module(workshop: Path) -> None:
    lines = (workshop / "output.txt").read_text().splitlines()
    manifest = open_bundle(workshop / "colors.edgeact").manifest
    assert manifest.labels == LABELS
    rows = {line.split()[0]: line for line in lines[:-1]}
    assert rows.keys() >= {"pytorch", *(artifact.name for artifact in manifest.artifacts)}
    assert all("top-1 100%" in rows[artifact.name] for artifact in manifest.artifacts)
    assert lines[-1] == f"wrote colors.edgeact; runs first: {manifest.preferred[0]}"


@pytest.mark.slow
def test_run_on_video(workshop: Path) -> None:
    lines = _run(workshop, "run_on_video.py", "colors.edgeact", "video.mp4").splitlines()
    windows = [re.fullmatch(r" *([\d.]+) to +([\d.]+) s  (\w+)  (\d+)%", line) for line in lines[1:-1]]
    seen = [(float(window[1]), float(window[2]), window[3]) for window in windows if window]
    assert seen == [(0.5 * i, 0.5 * i + 0.5, "red" if i < 6 else "green") for i in range(12)]
    assert re.fullmatch(r"video: (red|green)  \d+%", lines[-1])


@pytest.mark.slow
def test_camera_events(workshop: Path) -> None:
    """Each color is reported once, at the end of the second window that shows it."""
    assert _run(workshop, "camera_events.py", "colors.edgeact", "video.mp4") == "1.0 s: red\n4.0 s: green\n"


@pytest.mark.slow
def test_search_under_budget(workshop: Path) -> None:
    """The front is printed as recorded, and the chosen trial is the bundle."""
    lines = _run(workshop, "search_under_budget.py", "weights.pt", "clips", "1000").splitlines()
    record = SearchRecord.model_validate_json((workshop / "tiny.search.json").read_bytes())
    assert len(record.trials) == 3
    printed = [re.match(r"trial (\d+): [\d.]+ ms, top-1 100%", line) for line in lines[:-1]]
    assert [int(line[1]) for line in printed if line] == list(record.front)
    assert lines[-1] == f"wrote tiny.edgeact from trial {record.chosen}"
    trial = record.trial(record.chosen or 0)
    assert trial is not None
    assert open_bundle(workshop / "tiny.edgeact").manifest.model.parameters == trial.parameters


@pytest.mark.slow
def test_regression_gate(workshop: Path) -> None:
    """A baseline that was a hundred times faster fails the job; one of another model is not compared."""
    gate = ("regression_gate.py", "colors.edgeact", "baseline.json")
    assert "wrote baseline.json: p50" in _run(workshop, *gate)
    assert "not slower than allowed" in _run(workshop, *gate, "900%")
    document = json.loads((workshop / "baseline.json").read_text())
    document["latency"]["samples_ms"] = [sample / 100 for sample in document["latency"]["samples_ms"]]
    document["latency"]["p50_ms"] /= 100
    (workshop / "fast.json").write_text(LatencyRecord.model_validate(document).model_dump_json())
    assert "SLOWER" in _run(workshop, "regression_gate.py", "colors.edgeact", "fast.json", code=9)
    (workshop / "other.json").write_text(json.dumps({**document, "model": "another"}))
    assert _run(workshop, "regression_gate.py", "colors.edgeact", "other.json", code=11) == ""


@pytest.mark.slow
def test_compare_bundles(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second bundle has the weights of red and green exchanged: it fails on the videos of both."""
    wrong = ColourNet()
    with torch.no_grad():
        red, green = LABELS.index("red"), LABELS.index("green")
        wrong.head.weight[[red, green]] = wrong.head.weight[[green, red]]
    monkeypatch.setenv("EDGEACT_CACHE", str(workshop / "cache"))
    edgeact.export(
        wrong,
        data=str(workshop / "clips"),
        precision="fp32",
        out=workshop / "wrong.edgeact",
        labels=LABELS,
        clip_frames=4,
        size=32,
        fps=8.0,
    )
    data = "folder:clips?test=0.6"
    lines = _run(workshop, "compare_bundles.py", "colors.edgeact", "wrong.edgeact", data).splitlines()
    counts = re.match(r"(\d+) videos: (\d+) lost, 0 gained; accuracy drop \+50.0 points", lines[0])
    assert counts is not None
    assert int(counts[2]) * 2 == int(counts[1])
    assert lines[1].endswith(": loses")
    assert re.fullmatch(r"latency [\d.]+ ms -> [\d.]+ ms, ratio [\d.]+ to [\d.]+", lines[2])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_its_command(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text), clean=False) or ""
    assert f"\n    python examples/{script.name} " in docstring
    assert len(text.splitlines()) <= 55
    assert f"examples/{script.name}" in (ROOT / "README.md").read_text(encoding="utf-8")
