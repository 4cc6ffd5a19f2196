"""`__all__` is the truth: a module lists in it what is public, a room hands out by it what it imports for that."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from tests.test_packaging import _modules, _setuptools

PACKAGES = sorted(_setuptools()["packages"])


def _top_level(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _all_of(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(one, ast.Name) and one.id == "__all__" for one in node.targets
        ):
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def _defined(tree: ast.Module) -> set[str]:
    """Public functions and classes of a module."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")}


def _bound(tree: ast.Module) -> set[str]:
    """Every name that a module's top level gives a meaning."""
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    top_level = [*tree.body, *(_imported_when_used(tree) if "__getattr__" in _functions(tree) else [])]
    brought = {
        alias.asname or alias.name for node in top_level if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    return _defined(tree) | stored | brought


def _functions(tree: ast.Module) -> set[str]:
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def _imported_when_used(tree: ast.Module) -> list[ast.stmt]:
    """Imports for type checkers; a module with `__getattr__` imports these names when they are first used."""
    return [
        statement
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
    ]


def test_there_are_rooms() -> None:
    assert {"edgeact.bench", "edgeact.bundle", "edgeact.devices", "edgeact.runtime", "edgeact.video"} <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_exports_what_it_says_and_nothing_by_accident(package: str) -> None:
    module = importlib.import_module(package)
    tree = _top_level(Path(str(module.__file__)))
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}.")
        for alias in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    exported = getattr(module, "__all__", [])
    assert len(exported) == len(set(exported))
    assert imported - used <= set(exported), "imported from inside the room, but neither used nor handed out"
    assert [name for name in exported if not hasattr(module, name)] == []
    assert module.__doc__


@pytest.mark.parametrize("path", _modules(), ids=lambda path: "/".join(path.parts[-3:]))
def test_a_module_lists_what_it_defines(path: Path) -> None:
    tree = _top_level(path)
    exported = _all_of(tree)
    assert ast.get_docstring(tree)
    if exported is None:
        assert not _defined(tree) or path.stem == "__main__"
        return
    assert exported == sorted(exported, key=_isort_style)
    assert set(exported) <= _bound(tree)


def _isort_style(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff's RUF022 orders them."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, name
