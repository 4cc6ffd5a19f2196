"""`edgeact calibrate`: what it shows, writes and refuses, run as the console script runs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeact.calibration.range_methods import METHODS
from edgeact.cli.calibrate import Sorting, _rank
from edgeact.cli.data_options import MethodChoice
from edgeact.cli.main import main
from edgeact.export.build.calibrate import CalibrationRecord
from edgeact.export.models.loading import LoadRequest, load_model
from edgeact.video import write_video
from tests.export.colours import LABELS, colour_net

Calibrate = Callable[..., int]

SOURCE = "tests.export.colours:colour_net"
OWN = (SOURCE, "--labels", "labels.txt", "--clip-frames", "4", "--size", "32", "--fps", "8")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes, three persons of three videos each."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for label, name in enumerate(LABELS):
        for person in range(3):
            for number in range(3):
                frames = rng.integers(0, 30 * (label + 1) + 20 * number + 1, (4, 40, 40, 3)).astype(np.uint8)
                write_video(root / name / f"p{person}_{number}.mp4", frames, 8.0)
    return root


@pytest.fixture
def calibrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calibrate:
    """Return a function that runs the verb in an empty folder with a separate cache, and returns the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    Path("labels.txt").write_text("\n".join(LABELS))

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["edgeact", "calibrate", *arguments])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


def test_choices_are_the_methods() -> None:
    assert [choice.value for choice in MethodChoice] == list(METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_module_of_ones_own(
    method: str, calibrate: Calibrate, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", f"folder:{clips}", "--clips", "9", "--accept-poor-calibration")
    assert calibrate(*OWN, *data, "--method", method, "--json", "-o", "ranges.json") == 0
    out, err = capsys.readouterr()
    record = CalibrationRecord.model_validate_json(out)
    assert json.loads(Path("ranges.json").read_text()) == json.loads(out)
    assert record.ranges.method == method
    assert (record.provenance.clips, record.provenance.classes) == (9, 4)
    assert len(record.motion) == 9
    assert set(record.modules.values()) >= {"body", "head"}
    assert f"{method} ranges" in record.provenance.method
    assert record.settled_after == record.ranges.settled_after
    assert ("have not settled" in err) == bool(record.unsettled)
    assert "activation ranges: 9/9" in err
    if method == "minmax":
        assert {tensor.clipped for tensor in record.ranges.tensors.values()} == {0.0}


@pytest.mark.slow
def test_the_table_and_the_second_time_from_the_cache(
    calibrate: Calibrate, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (*OWN, "--data", f"folder:{clips}", "--clips", "9", "--accept-poor-calibration")
    assert calibrate(*arguments, "--method", "mse", "--sort", "clipped") == 0
    first = capsys.readouterr()
    for text in ("layer", "tensor", "limit", "scale", "clipped", "settled", "body", "mse ranges", "4 classes"):
        assert text in first.out
    assert "activation ranges" in first.err
    assert calibrate(*arguments, "--method", "mse", "--sort", "clipped") == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert "activation ranges" not in second.err


def test_the_orders_of_the_table(calibrate: Calibrate, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--data", f"folder:{clips}", "--clips", "9", "--accept-poor-calibration", "--method", "percentile")
    assert calibrate(*OWN, *arguments, "--json") == 0
    tensors = CalibrationRecord.model_validate_json(capsys.readouterr().out).ranges.tensors.values()
    clipped = [tensor.clipped for tensor in sorted(tensors, key=lambda tensor: _rank(tensor, Sorting.clipped))]
    assert clipped == sorted(clipped, reverse=True)
    moved = [tensor.last_change for tensor in sorted(tensors, key=lambda tensor: _rank(tensor, Sorting.moved))]
    assert moved == sorted(moved, reverse=True)
    assert sorted(tensors, key=lambda tensor: _rank(tensor, Sorting.layer)) == list(tensors)


@pytest.mark.slow
@pytest.mark.usefixtures("shared_cache")
def test_shipped_weights_and_their_clips_are_the_default(
    calibrate: Calibrate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate("--clips", "4", "--accept-poor-calibration", "--json") == 0
    record = CalibrationRecord.model_validate_json(capsys.readouterr().out)
    assert record.model == "msf-r3d-fsam"
    assert record.weights_sha256 == load_model(None, LoadRequest()).weights_sha256
    assert record.provenance.split == "train"
    assert {"stem.0", "stages.0.0.conv.0"} <= set(record.modules.values())


REFUSALS = [
    ((*OWN, "--data", "folder:CLIPS", "--clips", "9"), 4, ["at least 32 calibration clips, got 9", "--accept-poor"]),
    ((*OWN, "--data", "folder:ONE", "--clips", "40"), 4, ["at least 2 classes, got 1"]),
    pytest.param(
        *((*OWN,), 4, ["'colour_net' was not trained on stick-actions", "--data"]),
        marks=pytest.mark.slow,  # renders the project's clips if no test has
    ),
    ((*OWN, "--data", "random"), 4, ["random clips", "--accept-poor-calibration"]),
    ((*OWN, "--data", "folder:/no/such/folder"), 4, ["there is no folder '/no/such/folder'"]),
    ((*OWN, "--data", "no-such-data"), 2, ["unknown data set 'no-such-data'"]),
    ((*OWN, "--data", "folder:CLIPS", "--method", "maximum"), 2, ["maximum", "percentile"]),
    (("r3d-81",), 2, ["unknown model 'r3d-81'"]),
    ((*OWN, "--weights", "absent.pt"), 6, ["'absent.pt' do not exist"]),
]


@pytest.fixture
def shared_cache(calibrate: Calibrate, run_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of the whole run, so that the project's clips are rendered once."""
    monkeypatch.setenv("EDGEACT_CACHE", str(run_cache))


@pytest.mark.usefixtures("shared_cache")
@pytest.mark.parametrize(("arguments", "code", "says"), REFUSALS, ids=lambda value: str(value)[:60])
def test_refusals(
    arguments: tuple[str, ...],
    code: int,
    says: list[str],
    calibrate: Calibrate,
    clips: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = Path("one")
    one.mkdir()
    (one / LABELS[0]).symlink_to(clips / LABELS[0])
    given = [word.replace("CLIPS", str(clips)).replace("ONE", str(one.absolute())) for word in arguments]
    assert calibrate(*given) == code
    out, err = capsys.readouterr()
    assert out == ""
    for text in says:
        assert text in err.replace("\n", " ")


def test_weights_that_give_no_numbers(calibrate: Calibrate, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Finite weights so large that FP32 overflows behind them."""
    state = colour_net().state_dict()
    state["body.weight"] = state["body.weight"] * 1e30
    state["head.weight"] = state["head.weight"] * 1e30
    torch.save(state, "loud.pt")
    data = ("--data", f"folder:{clips}", "--clips", "9", "--accept-poor-calibration")
    assert calibrate(*OWN, *data, "--weights", "loud.pt") == 4
    err = capsys.readouterr().err.replace("\n", " ")
    assert "is not usable: layer" in err
    assert "calibrate on clips of the training data" in err
