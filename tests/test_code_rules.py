"""Rules of CONTRIBUTING.md that no linter checks, held against every source file."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MUTABLE = {"list", "dict", "set", "Counter", "defaultdict", "deque", "bytearray"}
MOST_ANY = 120


def _sources() -> list[Path]:
    folders = [ROOT / name for name in ("edgeact", "calibration", "devices", "export")]
    inside = [path for folder in folders for path in folder.rglob("*.py")]
    return sorted(path for path in inside if not any(parent.is_symlink() for parent in path.parents))


def _classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    for path in _sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield path, node


def _is_frozen_dataclass(node: ast.ClassDef) -> bool:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and "dataclass" in ast.unparse(decorator.func):
            return any(word.arg == "frozen" and ast.unparse(word.value) == "True" for word in decorator.keywords)
    return False


def _has_frozen_config(node: ast.ClassDef) -> bool:
    configs = [field for field in node.body if isinstance(field, ast.Assign) and "model_config" in ast.unparse(field)]
    return any("frozen=True" in ast.unparse(config) for config in configs)


def _frozen_models(classes: Sequence[ast.ClassDef]) -> set[str]:
    """Return the names of the pydantic models that are frozen themselves or by a base class."""
    bases = {node.name: {ast.unparse(base) for base in node.bases} for node in classes}
    frozen = {node.name for node in classes if _has_frozen_config(node)}
    while more := {name for name, names in bases.items() if names & frozen} - frozen:
        frozen |= more
    return frozen


def _mutable_fields(node: ast.ClassDef) -> Iterator[str]:
    for field in node.body:
        if not isinstance(field, ast.AnnAssign) or "ClassVar" in ast.unparse(field.annotation):
            continue
        if MUTABLE & {part.id for part in _annotations(field.annotation) if isinstance(part, ast.Name)}:
            yield f"{node.name}.{ast.unparse(field.target)}"


def _annotations(annotation: ast.expr) -> Iterator[ast.AST]:
    """Yield the parts of a type that a field holds; a callable's arguments and results, and metadata, are not held."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in ("Callable", "Literal", "type"):
        return
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
        assert isinstance(annotation.slice, ast.Tuple)
        yield from _annotations(annotation.slice.elts[0])
        return
    yield annotation
    for part in ast.iter_child_nodes(annotation):
        if isinstance(part, ast.expr):
            yield from _annotations(part)


def test_no_frozen_class_has_a_mutable_field() -> None:
    classes = list(_classes())
    models = _frozen_models([node for _, node in classes])
    wrong = [
        f"{path.relative_to(ROOT)}: {field}"
        for path, node in classes
        if _is_frozen_dataclass(node) or node.name in models
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
