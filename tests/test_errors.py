"""The tree drawn at the top of errors.py is the tree of the classes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgeact import errors
from edgeact.errors import EdgeactError, MissingExtraError, UnknownNameError

LINE = re.compile(r"^    (?P<lead>[│├└─ ]*)(?P<name>\w+Error) +(?P<code>\d+)   \S")


def _drawn() -> dict[str, tuple[str | None, int]]:
    """Class name -> name of its parent and exit code, as drawn."""
    tree: dict[str, tuple[str | None, int]] = {}
    ancestors: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := LINE.match(line):
            depth = len(found["lead"]) // 4
            del ancestors[depth:]
            assert len(ancestors) == depth
            assert found["name"] not in tree
            tree[found["name"]] = (ancestors[-1] if ancestors else None, int(found["code"]))
            ancestors.append(found["name"])
    return tree


def _real(kind: type[EdgeactError] = EdgeactError, parent: str | None = None) -> dict[str, tuple[str | None, int]]:
    tree: dict[str, tuple[str | None, int]] = {kind.__name__: (parent, kind.exit_code)}
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            tree |= _real(child, kind.__name__)
    return tree


def test_the_drawn_tree_is_the_real_one() -> None:
    assert _drawn() == _real()


def test_every_class_is_exported_and_described() -> None:
    assert list(errors.__all__) == sorted(_real())
    for name in errors.__all__:
        assert (getattr(errors, name).__doc__ or "").endswith(".")


def test_each_exit_code_belongs_to_one_branch() -> None:
    owners = {code: name for name, (parent, code) in _real().items() if parent in (None, "EdgeactError")}
    assert len(owners) == 1 + len(EdgeactError.__subclasses__())
    apart = {"BaselineError": 11, "BudgetError": 12}  # a CI tells "slower" from "not compared" and from "not found"
    for name, (parent, code) in _real().items():
        if parent not in (None, "EdgeactError"):
            assert code == apart.get(name, _real()[parent][1]), name
    assert not owners.keys() & set(apart.values())


def test_the_documented_exit_codes_are_the_real_ones() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert documented == {0, 130, 143} | {code for _, code in _real().values()}


@pytest.mark.parametrize(
    ("name", "hint"),
    [("jetsn", "did you mean jetson? known: cpu, desktop, jetson"), ("zzz", "known: cpu, desktop, jetson")],
)
def test_an_unknown_name_comes_with_known_ones(name: str, hint: str) -> None:
    message = str(UnknownNameError("target", name, ["jetson", "desktop", "cpu", "jetson"]))
    assert message == f"unknown target '{name}'; {hint}"


def test_a_missing_extra_says_what_to_install() -> None:
    assert str(MissingExtraError("cv2", "video")) == "'cv2' is not installed; run: pip install 'edgeact[video]'"
