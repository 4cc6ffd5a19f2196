"""What pyproject.toml says against what is there: packages, data files, extras, constraints, what mypy looks at."""

from __future__ import annotations

import ast
import ctypes
import functools
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mypy.main import process_options
from packaging.requirements import Requirement

import edgeact

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
JETSON = {"platform_machine": "aarch64", "sys_platform": "linux", "python_version": "3.10"}
ABLE = (sys.platform, platform.machine(), platform.libc_ver()[0]) == ("linux", "x86_64", "glibc")
HAS_NATIVE = ABLE and not os.environ.get("EDGEACT_NO_NATIVE")


@functools.cache
def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _setuptools() -> dict[str, Any]:
    found: dict[str, Any] = _pyproject()["tool"]["setuptools"]
    return found


def _extras() -> dict[str, list[Requirement]]:
    extras = _pyproject()["project"]["optional-dependencies"]
    return {name: [Requirement(text) for text in requirements] for name, requirements in extras.items()}


def _base() -> list[Requirement]:
    return [Requirement(text) for text in _pyproject()["project"]["dependencies"]]


def _folder(package: str) -> Path:
    """Where a package's files lie, by the mapping that the build reads."""
    mapping = _setuptools()["package-dir"]
    parts = package.split(".")
    for length in range(len(parts), 0, -1):
        if (root := ".".join(parts[:length])) in mapping:
            return ROOT.joinpath(mapping[root], *parts[length:])
    raise AssertionError(f"{package} is not in package-dir")


def _packages_on_disk() -> set[str]:
    """Every folder with an `__init__.py` below a mapped folder; links are other mapped folders."""
    found = set()
    for package, folder in _setuptools()["package-dir"].items():
        for init in (ROOT / folder).rglob("__init__.py"):
            if not any(parent.is_symlink() for parent in init.parents):
                found.add(".".join((package, *init.parent.relative_to(ROOT / folder).parts)))
    return found


def _modules() -> list[Path]:
    """All modules of the package by their real paths."""
    return sorted(path for package in _setuptools()["packages"] for path in _folder(package).glob("*.py"))


def test_the_list_of_packages_is_the_folders() -> None:
    packages = _setuptools()["packages"]
    assert packages == sorted(packages)
    assert set(packages) == _packages_on_disk()


def test_no_folder_of_modules_lacks_an_init() -> None:
    roots = [ROOT / folder for folder in ("edgeact", "calibration", "devices", "export", "tests")]
    folders = {path.parent for root in roots for path in root.rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_every_file_that_is_no_module_travels_in_the_wheel() -> None:
    patterns = _setuptools()["package-data"]
    for package in _setuptools()["packages"]:
        folder = _folder(package)
        told = {path for pattern in patterns.get(package, []) for path in folder.glob(pattern)}
        made = (".py", ".pyc", ".so")  # the last by setup.py, which puts it into the wheel itself
        there = {path for path in folder.iterdir() if path.is_file() and path.suffix not in made}
        assert there <= told, f"{package} has files that package-data does not name"
        if package != "edgeact.export.models":  # its pattern names a folder
            assert told == there


@pytest.mark.parametrize(
    ("package", "pattern"), [(package, one) for package, data in _setuptools()["package-data"].items() for one in data]
)
def test_every_pattern_of_data_files_finds_some(package: str, pattern: str) -> None:
    assert list(_folder(package).glob(pattern))


@pytest.mark.skipif(not HAS_NATIVE, reason="the native engine is for Linux on x86-64, and can be left out")
def test_the_native_engine_is_built_loads_and_keeps_its_promises() -> None:
    """As `pip install -e .` leaves it: for C libraries down to the tag's, the same bytes from any folder."""
    library = _folder("edgeact.runtime.native") / "libedgeact_native.so"
    assert library.is_file(), "it is built by: make .venv/installed"
    ctypes.CDLL(str(library))
    content = library.read_bytes()
    needs = {tuple(map(int, found)) for found in re.findall(rb"GLIBC_(\d+)\.(\d+)", content)}
    assert needs
    assert max(needs) <= (2, 28)
    assert str(ROOT).encode() not in content


def test_only_the_native_engine_needs_a_compiler() -> None:
    requires = [Requirement(text) for text in _pyproject()["build-system"]["requires"]]
    assert [one.name for one in requires if one.marker is None or one.marker.evaluate(JETSON)] == ["setuptools"]
    assert [str(one.specifier) for one in requires if one.name == "ziglang"] == ["==0.17.0"]  # same bytes: exact


@pytest.mark.parametrize("name", ["calibration", "devices", "export"])
def test_the_links_of_the_checkout_lead_if_the_build_looks(name: str) -> None:
    link = ROOT / "edgeact" / name
    assert link.is_symlink()
    assert link.resolve() == _folder(f"edgeact.{name}").resolve()


def test_mypy_looks_at_every_file() -> None:
    """It reports success on what it found, which may be nothing: so compare what it finds with what there is."""
    sources, options = process_options(["--config-file", str(ROOT / "pyproject.toml"), "--no-incremental"])
    assert options.strict_equality
    seen = {Path(source.path).resolve() for source in sources if source.path}
    there = {*_modules(), *(ROOT / "examples").glob("*.py"), *(ROOT / "tests").rglob("*.py")}
    assert len(there) > 200
    assert {path.relative_to(ROOT) for path in there - seen} == set()


def test_the_version_is_stated_once_for_all() -> None:
    assert _pyproject()["project"]["version"] == edgeact.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changes, re.MULTILINE)
    assert newest is not None
    assert newest[1] == edgeact.__version__


def test_the_base_install_is_light() -> None:
    assert {one.name for one in _base()} == {"filelock", "numpy", "packaging", "pydantic", "rich", "tomli", "typer"}


@pytest.mark.parametrize("extra", sorted(_extras()))
def test_nothing_replaces_what_a_jetson_brings(extra: str) -> None:
    """JetPack has TensorRT and OpenCV of its own: none of pip's TensorRT, and pip's OpenCV only where asked for."""
    wanted = {one.name for one in _extras()[extra] if one.marker is None or one.marker.evaluate(JETSON)}
    assert not [name for name in wanted if name.startswith(("tensorrt", "torch-tensorrt", "nvidia-"))]
    assert any("opencv" in name for name in wanted) == (extra in ("export", "video"))


def _asked_for() -> Iterator[tuple[str, int, str, str]]:
    """(file, line, module, extra) of every `require(module, extra)` and `need(extra, *modules)` in the code."""
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            words = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            place = str(path.relative_to(ROOT)), node.lineno
            if node.func.id == "require" and len(words) == 2:
                yield *place, words[0], words[1]
            elif node.func.id == "need" and words:
                yield from ((*place, module, words[0]) for module in words[1:])


# What JetPack brings: told by the backend itself, see edgeact/runtime/backends/tensorrt.py.
_OF_THE_BOARD = {("tensorrt", "tensorrt")}
_DISTRIBUTION = {"cv2": "opencv-python", "tensorrt_rtx": "tensorrt-rtx-cu13", "torch_pruning": "torch-pruning"}


def test_every_extra_an_error_names_exists_and_brings_the_module() -> None:
    asked = [one for one in _asked_for() if one[2:] not in _OF_THE_BOARD]
    assert len(asked) > 8
    for file, line, module, extra in asked:
        top = module.partition(".")[0]
        brought = {one.name for one in _extras().get(extra, [])}
        name = _DISTRIBUTION.get(top, top)
        assert name in brought, f"{file}:{line} tells to install edgeact[{extra}] for {module}, which does not bring it"


def test_constraints_pin_every_direct_dependency_exactly() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {pin.name: pin for pin in (Requirement(line) for line in lines if line and not line.startswith("#"))}
    for pin in pins.values():
        assert [(one.operator, "*" in one.version) for one in pin.specifier] == [("==", False)], str(pin)
    assert str(pins["torch"].specifier) == "==2.13.0"
    for one in [*_base(), *(one for requirements in _extras().values() for one in requirements)]:
        if one.name != "tomli":  # only Python 3.10 needs it
            assert one.name in pins, f"{one.name} is not pinned"
            assert one.specifier.contains(next(iter(pins[one.name].specifier)).version), f"{one} against {one.name}"


def test_make_installs_every_extra() -> None:
    listed = re.search(r"-e '\.\[([\w,-]+)\]'", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert listed is not None
    assert set(listed[1].split(",")) == set(_extras())


@pytest.mark.slow
def test_every_override_of_mypy_is_a_module_in_use() -> None:
    imported = set()
    for path in (*_modules(), *(ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                imported.add(node.value.partition(".")[0])  # those that are imported by name
    for override in _pyproject()["tool"]["mypy"]["overrides"]:
        assert {name.removesuffix(".*") for name in override["module"]} <= imported
