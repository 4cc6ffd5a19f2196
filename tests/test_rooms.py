"""Every import in the code, wherever it stands, held against the table of rooms in docs/architecture.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = "edgeact/__init__.py"  # the version and the table of the front door


def _rooms() -> list[str]:
    """The first column of the table, from the ground up."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("## Rooms, from the ground up")[1].split("\n###")[0]
    return [row.group(1) for row in re.finditer(r"^\| (\w+) \| `", table, re.MULTILINE)]


ROOMS = _rooms()


def _ground() -> tuple[str, ...]:
    """The modules that the table's row of the ground lists."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| ground |"))
    return tuple(re.findall(r"`(?:edgeact/)?(\w+)(?:\.py|/)`", row))


GROUND = _ground()


def _inner_rooms() -> list[str]:
    """The first column of the table of export/'s own rooms, from the ground up."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("### Rooms inside export/")[1].split("\n## ")[0]
    return [row.group(1) for row in re.finditer(r"^\| (\w+) \| ", table, re.MULTILINE)]


INNER_ROOMS = _inner_rooms()


def _files() -> list[Path]:
    """All modules by their real paths; the links inside edgeact/ lead to folders that are walked themselves."""
    folders = [ROOT / name for name in ("edgeact", "calibration", "devices", "export")]
    inside = [path for folder in folders for path in folder.rglob("*.py")]
    return sorted(path for path in inside if not any(parent.is_symlink() for parent in path.parents))


def _room_of_module(module: str) -> str | None:
    """'edgeact.runtime.session' -> 'runtime'; None for what is not ours or shared by all."""
    package, *rest = module.split(".")
    if package != "edgeact" or not rest:
        return None
    return "ground" if rest[0] in GROUND else rest[0]


def _room_of_file(path: Path) -> str | None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = parts if parts[0] == "edgeact" else ("edgeact", *parts)
    return _room_of_module(".".join(part for part in module if part != "__init__"))


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            names = [alias.name for alias in node.names] if node.module == "edgeact" else [""]
            yield from ((node.lineno, f"{node.module}.{name}".rstrip(".")) for name in names)


def _is_allowed(importer: str, imported: str) -> bool:
    return ROOMS.index(imported) <= ROOMS.index(importer)


def test_the_table_is_read() -> None:
    assert ROOMS[0] == "ground"
    assert ROOMS[-1] == "cli"
    assert {"devices", "bundle", "video", "runtime", "bench", "report", "calibration", "export"} <= set(ROOMS)


def test_the_rule_itself() -> None:
    assert _is_allowed("runtime", "video")
    assert _is_allowed("runtime", "runtime")
    assert not _is_allowed("runtime", "bench")
    assert not _is_allowed("ground", "devices")


def test_every_module_is_in_a_room() -> None:
    files = _files()
    assert len(files) > 30
    strangers = [path for path in files if _room_of_file(path) not in ROOMS]
    assert [str(path.relative_to(ROOT)) for path in strangers] == [SHARED]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in _files()
        if _room_of_file(path) == room
        for line, module in _imports(path)
        if (imported := _room_of_module(module)) is not None and not _is_allowed(room, imported)
    ]
    assert not wrong


def _inner_room_of_module(module: str) -> str | None:
    """'edgeact.export.models.spec' -> 'models'; None outside the inner rooms."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["edgeact", "export"] and len(parts) > 2 else None


def _inner_files(room: str) -> list[Path]:
    return sorted((ROOT / "export" / room).rglob("*.py"))


def test_export_has_no_modules_outside_its_inner_rooms() -> None:
    assert [path.name for path in (ROOT / "export").glob("*.py")] == ["__init__.py"]
    folders = {path.name for path in (ROOT / "export").iterdir() if (path / "__init__.py").is_file()}
    assert folders == set(INNER_ROOMS)


@pytest.mark.parametrize("room", INNER_ROOMS)
def test_an_inner_room_imports_only_inner_rooms_below_it(room: str) -> None:
    files = _inner_files(room)
    assert files
    allowed = INNER_ROOMS[: INNER_ROOMS.index(room) + 1]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in files
        for line, module in _imports(path)
        if (imported := _inner_room_of_module(module)) is not None and imported not in allowed
    ]
    assert not wrong
