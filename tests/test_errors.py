"""The tree drawn at the top of errors.py is the tree of the classes."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from edgeact import errors
from edgeact.errors import EdgeactError, MissingExtraError, StorageError, UnknownNameError

LINE = re.compile(r"^    (?P<lead>[│├└─ ]*)(?P<name>\w+Error) +(?P<code>\d+)   \S.*?(\((?P<standard>\w+Error)\))?$")


def _drawn() -> dict[str, tuple[str | None, int]]:
    """Class name -> name of its parent and exit code, as drawn."""
    tree: dict[str, tuple[str | None, int]] = {}
    ancestors: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if drawn := LINE.match(line):
            depth = len(drawn["lead"]) // 4
            del ancestors[depth:]
            assert len(ancestors) == depth
            assert drawn["name"] not in tree
            tree[drawn["name"]] = (ancestors[-1] if ancestors else None, int(drawn["code"]))
            ancestors.append(drawn["name"])
    return tree


def _real(kind: type[EdgeactError] = EdgeactError, parent: str | None = None) -> dict[str, tuple[str | None, int]]:
    tree: dict[str, tuple[str | None, int]] = {kind.__name__: (parent, kind.exit_code)}
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            tree |= _real(child, kind.__name__)
    return tree


def test_the_drawn_tree_is_the_real_one() -> None:
    assert _drawn() == _real()


def test_the_drawn_standard_classes_are_the_real_ones() -> None:
    drawn = {line["name"]: line["standard"] for line in map(LINE.match, (errors.__doc__ or "").splitlines()) if line}
    real = {name: _standard_class(getattr(errors, name)) for name in errors.__all__}
    assert drawn == real
    assert {"ValueError", "KeyError", "FileNotFoundError", "ModuleNotFoundError", "OSError"} < {*real.values()}


def _standard_class(kind: type[EdgeactError]) -> str | None:
    """The standard class that `kind` itself adds to its parent's."""
    return next(
        (base.__name__ for base in kind.__bases__ if base.__module__ == "builtins" and base is not Exception), None
    )


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name.startswith("Missing")])
def test_what_is_missing_is_known_by_its_standard_class(name: str) -> None:
    standard = ModuleNotFoundError if name == "MissingExtraError" else FileNotFoundError
    assert issubclass(getattr(errors, name), standard)


@pytest.mark.parametrize(
    "error",
    [
        UnknownNameError("target", "jetsn", ["jetson"]),
        MissingExtraError("cv2", "video", "see 'docs'"),
        StorageError("x 'y'"),
    ],
)
def test_an_error_keeps_its_type_and_message_on_the_way_from_another_process(error: EdgeactError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_every_class_is_exported_and_described() -> None:
    assert list(errors.__all__) == sorted(_real())
    for name in errors.__all__:
        assert (getattr(errors, name).__doc__ or "").endswith(".")


def test_each_exit_code_belongs_to_one_branch() -> None:
    owners = {code: name for name, (parent, code) in _real().items() if parent in (None, "EdgeactError")}
    assert len(owners) == 1 + len(EdgeactError.__subclasses__())
    # A CI tells "slower" from "not compared" and from "not found", a device "does not run" from "computes wrongly".
    apart = {"BaselineError": 11, "BudgetError": 12, "SelfCheckError": 13}
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


def test_an_unknown_name_is_a_key_error_and_a_value_error() -> None:
    error = UnknownNameError("target", "jetsn", ["jetson"])
    assert isinstance(error, KeyError)
    assert isinstance(error, ValueError)
    assert (error.kind, error.name, error.known) == ("target", "jetsn", ("jetson",))


def test_a_missing_extra_says_what_to_install() -> None:
    assert str(MissingExtraError("cv2", "video")) == "'cv2' is not installed; run: pip install 'edgeact[video]'"
