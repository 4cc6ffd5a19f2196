from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from edgeact.cli.main import app, main
from edgeact.devices import ALIASES, list_profiles, load_profile, matching_profiles

_WIDE = {"COLUMNS": "200"}


def _output(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["targets", *arguments], env=_WIDE)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_all_profiles_are_listed() -> None:
    text = _output()

    assert all(name in text for name in list_profiles())
    assert "orin-nano-8gb (jetson)" in text
    assert "no INT8" in next(line for line in text.splitlines() if line.startswith("nano "))


def test_inferred_rates_are_marked_in_the_list() -> None:
    line = next(line for line in _output().splitlines() if "agx-orin-64gb" in line)

    assert "~42.5" in line  # derived
    assert " 85 " in line  # stated by the data sheet


def test_the_list_as_json() -> None:
    document = json.loads(_output("--json"))

    assert document["aliases"] == ALIASES
    assert [entry["id"] for entry in document["targets"]] == list(list_profiles())
    assert {entry["id"] for entry in document["targets"] if entry["at_hand"]} == matching_profiles()


@pytest.mark.parametrize("name", list_profiles())
def test_one_target_shows_every_source(name: str) -> None:
    text = " ".join(_output(name).split())
    profile = load_profile(name)

    for stamp in profile.provenance.values():
        assert " ".join(stamp.source.split())[:60] in text
    assert profile.title in text
    assert all(dialect.name in text for dialect in profile.tensorrt)


def test_one_target_as_json_is_the_profile() -> None:
    document = json.loads(_output("jetson", "--json"))

    assert document == load_profile("orin-nano-8gb").model_dump(mode="json")


def test_an_unknown_target_ends_with_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["edgeact", "targets", "rtx4090"])

    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert captured.out == ""
    assert "did you mean rtx-4090" in captured.err


@pytest.mark.parametrize("columns", [None, "80", "60"])
def test_every_name_stands_whole_on_a_line_however_narrow(
    columns: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["edgeact", "targets"])
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit):
        main()
    starts = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert set(list_profiles()) <= starts
