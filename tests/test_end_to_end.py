"""A user's own model from weights and videos to a report, through the command line alone; then real videos."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import save_file

from edgeact.bundle import open_bundle
from edgeact.cli.main import main
from edgeact.records import AccuracyRecord, LatencyRecord
from tests.export.colours import LABELS, colour_net, write_colours

Edgeact = Callable[..., int]
_MODEL = """\
import torch
from tests.export.colours import ColourNet


def make() -> torch.nn.Module:
    torch.manual_seed(1)
    model = ColourNet()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)  # what it knows comes from the weights file
    return model
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with the user's module, weights, labels and videos, and with a separate cache."""
    root = tmp_path_factory.mktemp("workplace")
    (root / "my_model.py").write_text(_MODEL)
    save_file(colour_net().state_dict(), root / "mine.safetensors")
    (root / "labels.txt").write_text("\n".join(LABELS))
    write_colours(root / "clips")
    yield root
    sys.modules.pop("my_model", None)


@pytest.fixture
def edgeact(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Edgeact:
    """The console command, called in the user's folder; its exit code."""
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("EDGEACT_CACHE", str(workplace / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["edgeact", *arguments])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return run


@pytest.mark.slow
def test_from_weights_to_report(edgeact: Edgeact, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ("my_model:make", "--weights", "mine.safetensors", "--labels", "labels.txt", "--data", "clips")
    sizes = ("--clip-frames", "4", "--size", "32", "--fps", "8", "--threads", "1")
    assert edgeact("export", *model, *sizes, "--out", "mine.edgeact") == 0
    bundle = open_bundle("mine.edgeact")
    assert bundle.manifest.model.source == "my_model:make"
    assert bundle.manifest.labels == LABELS
    capsys.readouterr()

    assert edgeact("inspect", "mine.edgeact") == 0
    assert bundle.manifest.preferred[0] in capsys.readouterr().out

    video = sorted((workplace / "clips" / "red").glob("*.mp4"))[0]
    assert edgeact("run", "mine.edgeact", str(video), "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    windows = [line for line in lines if line["kind"] == "window"]
    assert len(windows) == 2
    assert all("red" in json.dumps(window) for window in windows)

    assert edgeact("evaluate", "mine.edgeact", "--data", "clips", "--out", "accuracy.json", "--threads", "1") == 0
    capsys.readouterr()
    accuracy = AccuracyRecord.model_validate_json(Path("accuracy.json").read_bytes())
    assert [(level.level, level.top1) for level in accuracy.accuracy] == [("clip", 1.0), ("video", 1.0)]
    assert accuracy.bundle_digest == bundle.digest

    assert edgeact("bench", "mine.edgeact", "--runs", "70", "--threads", "1", "--out", "latency.json") == 0
    latency = LatencyRecord.model_validate_json(Path("latency.json").read_bytes())
    assert latency.bundle_digest == bundle.digest
    capsys.readouterr()

    assert edgeact("report", "mine.edgeact", "latency.json", "--out", "report.html") == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert bundle.manifest.preferred[0] in page
    assert "100.0" in page or "100 %" in page


@pytest.mark.slow
@pytest.mark.real_video
def test_real_videos_calibrate_and_run(
    edgeact: Edgeact, shared_data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Six labels of real clips with their own splits; then odd containers and a corrupt file."""
    data, out = str(shared_data / "ut_interaction"), str(tmp_path / "real.edgeact")
    labels = ("handshake", "hug", "kick", "point", "punch", "push")
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    options = ("--random-weights", "--width", "8", "--clip-frames", "4", "--size", "32", "--data", data)
    budget = ("--clips", "32", "--threads", "1", "--target", "orin-nano-8gb")
    assert edgeact("export", "r3d-18", *options, *budget, "--labels", str(tmp_path / "labels.txt"), "--out", out) == 0
    bundle = open_bundle(out)
    assert bundle.manifest.labels == labels
    assert bundle.manifest.golden is not None
    assert bundle.manifest.golden.label in labels
    if bundle.manifest.calibration:
        assert (bundle.manifest.calibration.clips, bundle.manifest.calibration.classes) == (32, 6)
    capsys.readouterr()
    for path in sorted((shared_data / "real_clips").glob("*.*")):
        if path.suffix == ".md":
            continue
        code = edgeact("run", out, str(path), "--json")
        captured = capsys.readouterr()
        assert code in (0, 4), path.name
        if code == 4:
            assert "corrupted" in path.name
            assert path.name in captured.err
        else:
            assert captured.out.splitlines()
