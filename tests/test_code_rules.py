"""Rules of CONTRIBUTING.md that no linter checks, held against every source file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MUTABLE = {"list", "dict", "set", "Counter", "defaultdict", "deque", "bytearray"}
MOST_ANY = 120


def _sources() -> list[Path]:
    folders = [ROOT / name for name in ("edgeact", "calibration", "devices", "export")]
    inside = [path for folder in folders for path in folder.rglob("*.py")]
    return sorted(path for path in inside if not any(parent.is_symlink() for parent in path.parents))


def _is_frozen(node: ast.ClassDef) -> bool:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and "dataclass" in ast.unparse(decorator.func):
            return any(word.arg == "frozen" and ast.unparse(word.value) == "True" for word in decorator.keywords)
    return False


def _mutable_fields(node: ast.ClassDef) -> Iterator[str]:
    for field in node.body:
        if not isinstance(field, ast.AnnAssign):
            continue
        outer = field.annotation.value if isinstance(field.annotation, ast.Subscript) else field.annotation
        if ast.unparse(outer) in MUTABLE:
            yield f"{node.name}.{ast.unparse(field.target)}"


def test_no_frozen_dataclass_has_a_mutable_field() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {field}"
        for path in _sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and _is_frozen(node)
        for field in _mutable_fields(node)
    ]
    assert wrong == []


def test_any_is_rare() -> None:
    """Each use is a place where mypy checks nothing; they stand at the edge of untyped libraries."""
    uses = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in _sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name) and node.id == "Any"
    ]
    assert len(uses) <= MOST_ANY, uses


def test_no_file_is_longer_than_400_lines() -> None:
    long = {str(path.relative_to(ROOT)): lines for path in _sources() if (lines := _lines(path)) > 400}
    assert long == {}


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())
