"""`edgeact verify`: table, JSON and exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgeact.cli import main
from tests.bench.bundles import make_checked_bundle, make_golden_bundle
from tests.runtime.making import make_bundle
from tests.runtime.test_self_check import RIGHT, WRONG


def _verify(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> int:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["edgeact", "verify", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_table_shows_figures_limits_and_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_checked_bundle(tmp_path / "b.edgeact", [WRONG, RIGHT]).path
    assert _verify(monkeypatch, tmp_path, str(path)) == 13
    shown = capsys.readouterr()
    rows = {line.split()[0]: line for line in shown.out.splitlines() if "(<=" in line}
    for part in ("0 (<= 3)", "0 (<= 1)", "0 (<= 0.001)", "(>= 60)"):
        assert part in rows["right"]
    assert rows["right"].rstrip().endswith("passed")
    assert rows["wrong"].split()[-1] == "failed"
    assert "self-check failed at stage network" in shown.out
    assert "wrong on onnxruntime" in shown.err
    assert _verify(monkeypatch, tmp_path, str(path), "--artifact", "right") == 0


def test_json_has_every_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_checked_bundle(tmp_path / "b.edgeact", [WRONG, RIGHT]).path
    assert _verify(monkeypatch, tmp_path, str(path), "--json") == 13
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "failed"
    assert [(each["artifact"], each["verdict"]) for each in document["artifacts"]] == [
        ("wrong", "failed"),
        ("right", "passed"),
    ]
    stages = document["artifacts"][0]["stages"]
    assert [stage["verdict"] for stage in stages] == ["passed", "passed", "passed", "failed"]
    assert stages[-1]["limit"] == 60.0


def test_what_cannot_be_checked_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _verify(monkeypatch, tmp_path, str(make_golden_bundle(tmp_path / "old.edgeact").path)) == 0
    assert "resize: not checked" in capsys.readouterr().out
    assert _verify(monkeypatch, tmp_path, str(make_bundle(tmp_path / "none.edgeact").path)) == 11
    shown = capsys.readouterr()
    assert "network: not checked: the bundle has no golden clip" in shown.out
    assert "no network was checked" in shown.err


@pytest.mark.parametrize(("check", "code"), [("auto", 13), ("always", 13), ("never", 0)])
def test_other_verbs_take_the_time_of_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str, code: int
) -> None:
    path = make_checked_bundle(tmp_path / "b.edgeact", [WRONG]).path
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    video = str(path.with_suffix(".mp4"))
    for verb in (["run", str(path), video], ["bench", str(path), "--runs", "3"]):
        monkeypatch.setattr(sys, "argv", ["edgeact", *verb, "--check", check])
        with pytest.raises(SystemExit) as ended:
            main()
        assert int(ended.value.code or 0) == code
