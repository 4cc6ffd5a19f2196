"""Earlier spellings of options still work, say so in one line, and are not in the help."""

from __future__ import annotations

import sys

import pytest
import typer

from edgeact.cli.main import app, main
from edgeact.cli.renamed_options import RENAMED, with_current_names

PAIRS = [(verb, old, new) for verb, renamed in RENAMED.items() for old, new in renamed.items()]


@pytest.mark.parametrize(("verb", "old", "new"), PAIRS)
def test_the_current_name_is_an_option_of_the_verb_and_the_earlier_one_is_not(verb: str, old: str, new: str) -> None:
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]  # the app is a group
    options = {name for parameter in command.params for name in parameter.opts}
    assert new in options
    assert old not in options


def test_spellings_are_replaced_in_both_forms_with_one_line_each() -> None:
    warnings: list[str] = []
    typed = ["export", "model", "--calib", "--data=x", "--calib-method=mse", "--out", "a=b"]
    assert with_current_names(typed, warnings.append) == [
        *("export", "model", "--data", "--data=x", "--method=mse", "--out", "a=b")
    ]
    assert warnings == [
        "warning: --calib is deprecated, use --data",
        "warning: --calib-method is deprecated, use --method",
    ]


@pytest.mark.parametrize("arguments", [[], ["--version"], ["train", "--calib", "x"], ["run", "a", "b"]])
def test_other_verbs_are_left_alone(arguments: list[str]) -> None:
    warnings: list[str] = []
    assert with_current_names(arguments, warnings.append) == arguments
    assert not warnings


def test_the_command_takes_an_earlier_spelling(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["edgeact", "export", "--calib-method", "median"])
    with pytest.raises(SystemExit) as ended:
        main()
    errors = capsys.readouterr().err
    assert ended.value.code == 2
    assert errors.startswith("warning: --calib-method is deprecated, use --method\n")
    assert "'--method'" in errors
