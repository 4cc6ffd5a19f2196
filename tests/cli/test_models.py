from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from edgeact.cli.main import app, main
from edgeact.export.models.attention.registry import ATTENTIONS
from edgeact.export.models.backbones.registry import BACKBONES
from edgeact.export.models.published import published_figures
from edgeact.export.models.registry import MODELS


def _output(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": "250"})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_all_models_and_parts_are_listed() -> None:
    lines = _output().splitlines()

    names = {line.split()[0] for line in lines if line.strip()}
    assert names >= {*MODELS, *BACKBONES, *ATTENTIONS}
    rows = [line.split()[:6] for line in lines if line.endswith("MSF-R3D, table 5")]
    assert ["msf-r3d-fsam", "8x112x112", "101", "21.88", "21.88", "-0.01"] in rows
    assert any(line.split()[:2] == ["fsam", "stages=3,4"] for line in lines)


@pytest.mark.slow
def test_the_list_as_json_names_the_differences() -> None:
    document = json.loads(_output("--json"))

    figures = [entry["figure"] for entry in document["models"] if entry["figure"]]
    assert len(figures) == len(published_figures())
    row = next(entry for entry in document["models"] if entry["name"] == "msf-r3d")
    assert row["clip"]["clip_frames"] == row["figure"]["clip_frames"] == 8
    assert row["parameters_percent"] == pytest.approx(100 * (row["parameters"] / 21.84e6 - 1), abs=0.01)
    assert [part["name"] for part in document["backbones"]] == list(BACKBONES)
    assert [part["name"] for part in document["attentions"]] == list(ATTENTIONS)


def test_one_model_shows_its_options_and_weights() -> None:
    text = _output("msf-r3d-fsam")

    assert "msf-r3d+fsam" in text
    assert "8 frames at 6.25 frames/s" in text
    assert "width 16, 12 classes" in text
    (stages,) = (line.split() for line in text.splitlines() if line.startswith("stages "))
    assert stages[:3] == ["stages", "3,4", "3,4"]


def test_a_combination_shows_what_it_chose() -> None:
    document = json.loads(_output("r3d-18+fsam?parts=8", "--json"))

    assert [entry["formula"] for entry in document["entries"]] == ["r3d-18+fsam?parts=8"]
    assert [part["name"] for part in document["parts"]] == ["r3d-18", "fsam"]
    assert document["shipped_weights"] is None
    (parts,) = (line.split() for line in _output("r3d-18+fsam?parts=8").splitlines() if line.startswith("parts "))
    assert parts[:3] == ["parts", "8", "16"]


@pytest.mark.slow
def test_the_markdown_is_a_table_and_stands_alone() -> None:
    assert _output("--markdown").startswith("| model | clip |")
    result = CliRunner().invoke(app, ["models", "--markdown", "--json"])
    assert "expected neither" in str(result.exception)


def test_an_unknown_model_ends_with_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["edgeact", "models", "r3d-81"])

    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert captured.out == ""
    assert "did you mean r3d-18" in captured.err
