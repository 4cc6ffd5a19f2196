"""The front door: one call each to export, evaluate, time and describe; and loading what was exported."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

import edgeact
from edgeact.api import ExportOptions
from edgeact.bundle import Bundle, open_bundle
from edgeact.cli.main import app
from edgeact.errors import UsageError
from edgeact.export.build import read_recipe
from edgeact.progress import Callbacks
from tests.export.colours import LABELS, ColourNet, write_colours
from tests.messages import names


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def bundle(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A module object as a bundle for this machine; narrow options that differ from every default."""
    folder = tmp_path_factory.mktemp("exported")
    steps: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEACT_CACHE", str(folder / "cache"))
        made = edgeact.export(
            ColourNet(),
            "cpu",
            data=f"folder:{videos}",
            precision="fp32",
            out=folder / "colors.edgeact",
            labels=LABELS,
            clip_frames=4,
            size=32,
            fps=8.0,
            mean=(0.5, 0.5, 0.5),
            clips=16,
            videos=20,
            threads=1,
            seed=3,
            callbacks=Callbacks(on_progress=lambda title, _done, _total: steps.append(title)),
        )
    assert "loading the model" in steps
    return made


def test_export_writes_what_was_asked_for(bundle: Bundle) -> None:
    manifest = open_bundle(bundle).manifest
    assert (manifest.model.name, manifest.labels, manifest.target) == ("ColourNet", LABELS, bundle.manifest.target)
    assert {artifact.precision for artifact in manifest.artifacts} == {"fp32"}
    assert (manifest.clip.clip_frames, manifest.clip.crop, manifest.clip.fps) == (4, (32, 32), 8.0)
    assert manifest.clip.mean == (0.5, 0.5, 0.5)


@pytest.mark.slow
def test_load_evaluate_benchmark_and_report_take_the_bundle_itself(
    bundle: Bundle, videos: Path, tmp_path: Path
) -> None:
    red = np.full((4, 40, 48, 3), (230, 20, 20), dtype=np.uint8)
    with edgeact.load(bundle, threads=1) as recognizer:
        assert recognizer.predict(red).label == "red"
    accuracy = edgeact.evaluate(bundle, f"folder:{videos}", videos=8, threads=1)
    assert {entry.count for entry in accuracy.accuracy if entry.level == "video"} == {8}
    assert all(entry.top1 == 1.0 for entry in accuracy.accuracy)
    latency = edgeact.benchmark(bundle, runs=5, threads=1, artifact="onnx-fp32")
    assert (latency.artifact, latency.latency.runs, latency.latency.threads) == ("onnx-fp32", 5, 1)
    page = edgeact.report(bundle, out=tmp_path / "page.html", markdown=tmp_path / "page.md")
    assert [view.digest for view in page.bundles] == [bundle.digest]
    assert "ColourNet" in (tmp_path / "page.html").read_text()
    assert "ColourNet" in (tmp_path / "page.md").read_text()


@pytest.mark.slow
def test_a_pruned_export_has_fewer_channels(bundle: Bundle, videos: Path, tmp_path: Path) -> None:
    pruned = edgeact.export(
        ColourNet(),
        data=str(videos),
        precision="fp32",
        out=tmp_path / "pruned.edgeact",
        labels=LABELS,
        clip_frames=4,
        size=32,
        fps=8.0,
        clips=16,
        videos=20,
        threads=1,
        prune=0.5,
        prune_layer={"stem": 0.0},
        prune_multiple=1,
    )
    assert pruned.manifest.model.parameters < bundle.manifest.model.parameters


def test_wrong_calls_are_refused_as_python_would(tmp_path: Path) -> None:
    with pytest.raises(TypeError, check=names("unexpected keyword argument 'tagret'")):
        edgeact.export("msf-r3d-fsam", tagret="cpu")  # type: ignore[call-arg]
    with pytest.raises(KeyError):
        edgeact.export("msf-r3d-fsam", "jetsen", out=tmp_path / "x.edgeact")
    with pytest.raises(FileNotFoundError):
        edgeact.benchmark(tmp_path / "absent.edgeact")
    for file in ("absent.edgeact", "absent.json"):
        with pytest.raises(FileNotFoundError):
            read_recipe(tmp_path / file)
    with pytest.raises(UsageError):
        edgeact.benchmark(tmp_path / "absent.edgeact", runs=0)
    with pytest.raises(AttributeError):
        _ = edgeact.exprot


def test_options_are_named_as_on_the_command_line() -> None:
    (verb,) = (verb.callback for verb in app.registered_commands if verb.name == "export")
    assert verb is not None
    command = inspect.signature(verb)
    only_there = {"context", "trial", "recipe", "json"}
    only_here = {"clip", "float_modules", "callbacks"}
    here = {*inspect.signature(edgeact.export).parameters, *ExportOptions.__annotations__} - {"options"}
    assert set(command.parameters) - only_there == here - only_here
