"""The documents are true: links lead somewhere, commands are real, the device app runs as it is printed."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import edgeact
from edgeact import runtime
from edgeact.cli.main import app
from edgeact.devices import ALIASES, list_profiles
from edgeact.runtime import BACKENDS, FakeBackend
from edgeact.video import write_video
from tests.runtime.making import CLIP, make_bundle

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
DOCUMENTS += sorted(path for path in (ROOT / "docs").rglob("*.md") if "measured" not in path.parts)
SCRIPTS = [ROOT / "scripts" / "demo.sh"]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FIGURE = re.compile(r"\d\s*(ms|MB|GB|µs|clips/s|frames/s|x faster|times faster|points)\b")


def _blocks(text: str, *languages: str) -> list[str]:
    return [match[2] for match in _FENCE.finditer(text) if match[1] in languages]


def _shell_lines(path: Path) -> str:
    """The shell blocks of a document, or a script; a line that goes on is one line."""
    text = path.read_text(encoding="utf-8")
    shell = "\n".join(_blocks(text, "sh", "console", "")) if path.suffix == ".md" else text
    return shell.replace("\\\n", " ")


def _calls(path: Path) -> list[list[str]]:
    """Every `edgeact ...` line of a document's shell blocks, or of a script, as words."""
    lines = (re.sub(r"^\s*(\$ |show )?", "", line) for line in _shell_lines(path).splitlines())
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("edgeact ")]


def _mentions(path: Path) -> list[list[str]]:
    """Every `edgeact ...` within a document's sentences, as words; it need not be complete."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    return [shlex.split(found)[1:] for found in re.findall(r"`(edgeact [^`]+)`", text)]


def _named(commands: Callable[[Path], list[list[str]]], *paths: Path) -> list[tuple[str, list[str]]]:
    return [(path.name, words) for path in paths for words in commands(path)]


def _words(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " ".join(value)[:60]


def _anchors(path: Path) -> set[str]:
    """The anchors that a page's headings get."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for link in _LINK.findall(path.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), f"{path.name} links to {link}"
        assert target.is_relative_to(ROOT), f"{path.name} links out of the repository: {link}"
        if anchor:
            assert anchor in _anchors(target), f"{path.name} links to {link}"


def _parse(words: list[str]) -> None:
    """By the command line's own parser; nothing is run."""
    group: Any = typer.main.get_command(app)
    verb, *arguments = words
    assert verb in group.commands
    group.commands[verb].make_context(f"edgeact {verb}", arguments).close()


@pytest.mark.parametrize(("document", "words"), _named(_calls, *DOCUMENTS, *SCRIPTS), ids=_words)
def test_every_command_in_the_documents_is_a_real_one(document: str, words: list[str]) -> None:
    _parse(words)


@pytest.mark.parametrize(("document", "words"), _named(_mentions, *DOCUMENTS), ids=_words)
def test_every_command_in_a_sentence_is_a_real_one(document: str, words: list[str]) -> None:
    try:
        _parse(words)
    except typer.BadParameter as error:
        if not str(error).startswith("Missing parameter"):
            raise


def test_the_readme_shows_the_verbs_and_few_lines() -> None:
    shown = {words[0] for words in (*_calls(ROOT / "README.md"), *_mentions(ROOT / "README.md"))}
    assert {"export", "inspect", "bench", "evaluate", "data", "train", "targets"} <= shown
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_measured_figures_stand_with_their_conditions_not_here(document: str) -> None:
    text = _FENCE.sub("", (ROOT / document).read_text(encoding="utf-8"))
    assert _FIGURE.findall(text) == []


def test_the_readme_names_every_backend_and_real_targets() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in BACKENDS if f"| `{name}` |" not in text] == []
    calls = [words for _, words in _named(_calls, *DOCUMENTS, *SCRIPTS)]
    targets = {words[words.index("--target") + 1] for words in calls if "--target" in words}
    assert targets
    assert targets <= {*list_profiles(), *ALIASES}


def test_every_path_in_backticks_exists() -> None:
    for path in DOCUMENTS:
        for name in re.findall(
            r"`((?:docs|edgeact|export|calibration|devices|tests|scripts)/[\w./-]+)`", path.read_text()
        ):
            if "NAME" not in name:
                found = (ROOT / name).exists() or list(ROOT.glob(name))
                assert found, f"{path.name} names {name}"


def test_the_device_app_of_the_readme_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a real bundle with ONNX Runtime and a real mp4 file, whose second half is of another colour."""
    blocks = _blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")
    program = next(block for block in blocks if "from edgeact import runtime" in block)
    assert len([line for line in program.splitlines() if line.strip()]) <= 10
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    make_bundle(tmp_path / "model.edgeact")
    frames = np.zeros((2 * CLIP.clip_frames, 32, 32, 3), np.uint8)
    frames[: CLIP.clip_frames, ..., 0] = 255
    frames[CLIP.clip_frames :, ..., 2] = 255
    write_video(tmp_path / "clip.mp4", frames, CLIP.fps)
    exec(compile(program, "README.md", "exec"), {})
    told, *windows = capsys.readouterr().out.splitlines()
    assert told.startswith("onnxruntime ")
    assert [line.split()[2] for line in windows] == ["red", "blue"]


def test_the_quickstart_calls_functions_with_parameters_that_they_have() -> None:
    """Ten lines; the examples run the same calls."""
    block = _blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")[0]
    assert len(block.splitlines()) <= 10
    calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    front_door = [call for call in calls if ast.unparse(call.func).startswith("edgeact.")]
    assert {ast.unparse(call.func) for call in front_door} == {"edgeact.export", "edgeact.load", "edgeact.report"}
    for call in front_door:
        function = getattr(edgeact, ast.unparse(call.func).removeprefix("edgeact."))
        names = {word.arg: None for word in call.keywords if word.arg}
        inspect.signature(function).bind(*([None] * len(call.args)), **names)


def test_what_the_readme_says_of_your_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    path = make_bundle(tmp_path / "model.edgeact").path
    with runtime.load(path, backend=FakeBackend(logits=np.array([0.0, 0.0, 0.0, 9.0], np.float32))) as recognizer:
        frames = np.zeros((recognizer.clip.clip_frames, 48, 64, 3), np.uint8)
        assert recognizer.predict(frames, order="bgr").label == "blue"
