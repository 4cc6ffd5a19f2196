"""Groups of options become flat options of a verb; the help of every verb sorts them into panels and explains each."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, get_args

import pytest
import typer
from typer.testing import CliRunner

from edgeact.cli.main import app
from edgeact.cli.option_groups import with_option_groups
from edgeact.devices.profile import BackendName
from edgeact.runtime.backends import BACKENDS
from tests.cli.test_main import VERBS

EXPORT_PANELS = ["Model", "Clip", "Data", "Precision", "Pruning", "Output"]


@dataclass(frozen=True)
class _Point:
    x: Annotated[int, typer.Option(min=0, help="Abscissa.")] = 3
    names: Annotated[list[str] | None, typer.Option("--name", help="Repeatable.")] = None


def _cli(received: list[tuple[_Point, str, bool]]) -> typer.Typer:
    @with_option_groups
    def verb(*, point: _Point, word: Annotated[str, typer.Argument()], loud: bool = False) -> None:
        """Say a word at a point."""
        received.append((point, word, loud))

    cli = typer.Typer()
    cli.command()(verb)
    return cli


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["hi"], (_Point(), "hi", False)),
        (["hi", "--x", "5", "--loud"], (_Point(5), "hi", True)),
        (["--name", "a", "hi", "--name", "b"], (_Point(3, ["a", "b"]), "hi", False)),
    ],
)
def test_a_verb_gets_its_groups_as_dataclasses(typed: list[str], expected: tuple[_Point, str, bool]) -> None:
    received: list[tuple[_Point, str, bool]] = []
    assert CliRunner().invoke(_cli(received), typed).exit_code == 0
    assert received == [expected]


def test_limits_of_a_field_hold() -> None:
    received: list[tuple[_Point, str, bool]] = []
    assert CliRunner().invoke(_cli(received), ["hi", "--x", "-1"]).exit_code == 2
    assert not received


def test_the_signature_is_flat_and_in_order() -> None:
    @with_option_groups
    def verb(*, first: int = 0, point: _Point, last: str) -> None:
        """Do nothing."""

    assert list(inspect.signature(verb).parameters) == ["first", "x", "names", "last"]
    assert verb.__doc__ == "Do nothing."


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_a_panel_and_a_help_that_is_read_alone(verb: str) -> None:
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]  # the app is a group
    for option in command.params:
        if option.name == "help":
            continue
        help_text = str(option.help)
        assert help_text[0].isupper(), option.name
        assert help_text.endswith("."), option.name
        assert help_text.split()[0] not in {"Its", "Of", "That", "Those", "By"}, option.name
        if option.param_type_name == "option":
            assert option.rich_help_panel, option.name


def test_the_panels_of_export_are_in_order() -> None:
    command = typer.main.get_command(app).commands["export"]  # type: ignore[attr-defined]  # the app is a group
    panels = [option.rich_help_panel for option in command.params if option.param_type_name == "option"]
    assert list(dict.fromkeys(panel for panel in panels if panel)) == EXPORT_PANELS


@pytest.mark.parametrize("verb", ["bench", "evaluate", "run"])
def test_the_help_lists_every_backend(verb: str) -> None:
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]  # the app is a group
    (backend,) = (option for option in command.params if option.name == "backend")
    assert set(get_args(BackendName)) == set(BACKENDS)
    assert all(name in backend.help for name in BACKENDS)
