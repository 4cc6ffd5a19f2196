"""`edgeact evaluate` as it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeact.cli.main import main
from edgeact.records import AccuracyRecord
from tests.bench.bundles import make_golden_bundle
from tests.export.colours import write_colours

Evaluate = Callable[..., int]


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Runs the verb in a folder with `tiny.edgeact` and `clips`; its exit code."""
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    make_golden_bundle(tmp_path / "tiny.edgeact")
    write_colours(tmp_path / "clips", persons=3)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["edgeact", "evaluate", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    return run


def test_the_table_tells_both_levels(evaluate: Evaluate, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("tiny.edgeact", "--data", "clips", "--threads", "1", "--out", "record.json") == 0
    captured = capsys.readouterr()
    record = AccuracyRecord.model_validate_json(Path("record.json").read_bytes())
    for accuracy in record.accuracy:
        assert accuracy.level in captured.out
        assert f"{accuracy.top1_interval.low:.1%} to 100.0%" in captured.out
    assert "evaluating" in captured.err


def test_json_is_the_record_alone(evaluate: Evaluate, capsys: pytest.CaptureFixture[str]) -> None:
    (Path("clips") / "red" / "person00_0.mp4").write_bytes(b"no video")
    spec = "folder:clips?test=0&val=0"
    assert evaluate("tiny.edgeact", "--data", spec, "--threads", "1", "--out", "record.json", "--json") == 0
    record = AccuracyRecord.model_validate_json(capsys.readouterr().out)
    assert record == AccuracyRecord.model_validate_json(Path("record.json").read_bytes())
    assert record.accuracy[1].count == 11
    assert record.accuracy[1].skipped == {"unreadable": 1}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("absent.edgeact", "--data", "clips"), 2, "absent.edgeact"),
        (("tiny.edgeact", "--data", "/no/folder"), 4, "there is no folder"),
        (("tiny.edgeact", "--data", "clips", "--split", "tset"), 4, "no split 'tset'"),
        (("tiny.edgeact", "--data", "stick-actions:s?train=12&val=0&test=0&size=48x32"), 4, "does not know"),
        (("tiny.edgeact", "--data", "clips", "--backend", "onnxrutime"), 2, "did you mean onnxruntime"),
        (("tiny.edgeact", "--data", "clips", "--artifact", "absent"), 2, "unknown artifact"),
        (("tiny.edgeact", "--data", "clips", "--videos", "0"), 2, "--videos"),
    ],
)
def test_refusals(
    arguments: tuple[str, ...], code: int, words: str, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(*arguments, "--out", "record.json") == code
    captured = capsys.readouterr()
    assert words in " ".join(captured.err.split())
    assert captured.out == ""
    assert not Path("record.json").exists()
