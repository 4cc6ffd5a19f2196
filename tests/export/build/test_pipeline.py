"""Whole exports of a small network: what is in the bundle, whether it is the same again, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeact.bundle import Bundle, is_vouched, open_bundle
from edgeact.errors import (
    CalibrationError,
    ConversionError,
    DataError,
    ModelError,
    UnknownNameError,
    UntrustedEngineError,
    UsageError,
    WeightsError,
)
from edgeact.export.build import build, read_recipe, through
from edgeact.export.build import data as data_module
from edgeact.export.build.data import RANDOM_DATA, DataPlan
from edgeact.export.models.loading import LoadRequest
from edgeact.reasons import Int8Omitted, ParityTooLow
from edgeact.runtime import FallbackWarning, get_backend, load, verify
from edgeact.video import frames_digest, preprocess, read_clips
from tests.export.build.exporting import Case, export
from tests.export.build.watching import collecting_titles
from tests.export.colours import LABELS, ColourNet, write_colours
from tests.messages import names

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture
def request_for(colour_videos: Path, tmp_path: Path, cache: Path) -> Case:
    """An export of the colour network to `tmp_path/made.edgeact`; change it with dataclasses.replace."""
    return Case(
        target="jetson",
        out=tmp_path / "made.edgeact",
        source=ColourNet(),
        load=LoadRequest(labels=LABELS, clip_frames=4, size=32, fps=8.0),
        data=DataPlan(str(colour_videos)),
        threads=1,
    )


def _members(bundle: Bundle) -> dict[str, bytes]:
    members = {member.path: bundle.read(member.path) for member in bundle.manifest.members}
    return {**members, "manifest.json": bundle.digest.encode()}


@pytest.fixture(scope="module")
def cpu_bundle(colour_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The colour network for the CPU at hand."""
    request = Case(
        target="cpu",
        out=tmp_path_factory.mktemp("cpu") / "colours.edgeact",
        source="tests.export.colours:colour_net",
        load=LoadRequest(labels=LABELS, clip_frames=4, size=32, fps=8.0),
        data=DataPlan(str(colour_videos)),
        threads=1,
    )
    return export(request)


def test_a_cpu_bundle_holds_the_winner_and_a_fallback(cpu_bundle: Bundle) -> None:
    manifest, measured = cpu_bundle.manifest, cpu_bundle.measurements
    assert measured is not None
    assert not manifest.decide_on_device
    native = {"native"} if get_backend("native").why_unavailable() is None else set()
    assert {artifact.backends[0] for artifact in manifest.artifacts} == {"openvino", "onnxruntime"} | native
    rows = {row.artifact: row for row in measured.rows}
    chosen = rows[manifest.preferred[0]]
    assert chosen.verdict == "chosen"
    assert {row.verdict for name, row in rows.items() if name not in manifest.preferred} == {"rejected", "reference"}
    timed = [row.latency.p50_ms for row in measured.rows if row.latency and row.verdict != "reference"]
    assert chosen.latency is not None
    assert chosen.latency.p50_ms == min(timed)
    assert all(row.accuracy for row in measured.rows)


def test_its_golden_clip_is_what_the_runtime_makes_of_it(cpu_bundle: Bundle, tmp_path: Path) -> None:
    golden, clip = cpu_bundle.manifest.golden, cpu_bundle.manifest.clip
    assert golden is not None
    (tmp_path / "golden.mp4").write_bytes(cpu_bundle.read(golden.video))
    (frames,) = read_clips(tmp_path / "golden.mp4", clip, (0.0,))
    assert frames_digest(frames) == golden.frames_sha256
    array = preprocess(frames, clip)
    np.testing.assert_allclose(array[0].reshape(3, -1).mean(axis=1), golden.input_mean, atol=1e-4)
    for artifact in cpu_bundle.manifest.artifacts:
        with load(cpu_bundle.path, artifact=artifact.name, threads=1) as recognizer:
            logits = recognizer.logits(array)
        tolerance = {"fp32": 1e-3, "fp16": 0.2, "int8": 2.0}[artifact.precision]
        np.testing.assert_allclose(logits, golden.logits, atol=tolerance)
        assert manifest_label(cpu_bundle, logits) == golden.label


def test_every_artifact_passes_its_self_check_where_it_was_exported(cpu_bundle: Bundle) -> None:
    """The logits of the golden clip are those of each artifact, not of PyTorch, and every stage has its figures."""
    golden = cpu_bundle.manifest.golden
    assert golden is not None
    verification = verify(cpu_bundle.path, threads=1)
    assert [each.artifact for each in verification.artifacts] == list(cpu_bundle.manifest.preferred)
    for verified in verification.artifacts:
        assert verified.check is not None
        assert [result.verdict for result in verified.check.stages] == ["passed"] * 4
        assert (verified.check.stages[-1].figure or 0) > 100
    int8 = [artifact for artifact in cpu_bundle.manifest.artifacts if artifact.precision == "int8"]
    assert all(artifact.golden_logits != golden.logits for artifact in int8)


def manifest_label(bundle: Bundle, logits: np.ndarray) -> str:
    return bundle.manifest.labels[int(logits.argmax())]


def test_the_same_inputs_give_the_same_members(request_for: Case, tmp_path: Path) -> None:
    first = export(request_for)
    second = export(replace(request_for, out=tmp_path / "again.edgeact"))
    assert first.digest == second.digest
    assert _members(first) == _members(second)
    assert first.manifest.calibration is not None
    assert first.manifest.decide_on_device
    assert [artifact.name for artifact in first.manifest.artifacts] == ["trt-int8", "trt-fp16", "onnx-fp32"]


@pytest.mark.parametrize("target", ["jetson", "cpu"])
def test_another_process_gives_the_same_members(
    target: str, request_for: Case, colour_videos: Path, tmp_path: Path
) -> None:
    """The CPU in one precision, so that measured latency decides nothing but an order."""
    options = {"target": target, "precision": "fp16" if target == "cpu" else "auto"}
    here = export(replace(request_for, source="tests.export.colours:colour_net", **options))  # type: ignore[arg-type]
    arguments = ["tests.export.colours:colour_net", "--data", str(colour_videos), "--threads", "1"]
    arguments += ["--clip-frames", "4", "--size", "32", "--fps", "8", "--out", str(tmp_path / "other.edgeact")]
    arguments += [part for name, value in options.items() for part in (f"--{name}", value)]
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    command = [
        sys.executable,
        "-c",
        "from edgeact.cli import main; main()",
        "export",
        *arguments,
        "--labels",
        str(tmp_path / "labels.txt"),
    ]
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True)
    assert _members(open_bundle(tmp_path / "other.edgeact")) == _members(here)


def test_an_engine_is_vouched_for_here_only(request_for: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = export(replace(request_for, target="rtx-4090"))
    engines = [member for member in bundle.manifest.members if member.role == "engine"]
    assert len(engines) == 2
    assert all(is_vouched(engine.sha256) for engine in engines)
    logits = {artifact.name: artifact.golden_logits for artifact in bundle.manifest.artifacts}
    strong = next(name for name in logits if "fp16" in name and name != "rtx-fp16-engine")
    assert logits["rtx-fp16-engine"] == logits[strong] != ()
    elsewhere = shutil.copy(bundle.path, tmp_path / "copied.edgeact")
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "other"))
    with pytest.raises(UntrustedEngineError, check=names("executable code")):
        load(elsewhere, artifact="rtx-fp16-engine")
    with pytest.warns(FallbackWarning, match="executable code"):
        recognizer = load(elsewhere)
    with recognizer:
        refused = {one.artifact: str(one.error) for one in recognizer.choice.rejected}
        assert recognizer.choice.artifact not in refused
        assert "executable code" in refused["rtx-int8-engine"]


def test_the_steps_are_reported_and_the_default_data_is_named(
    request_for: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = f"stick-actions:{tmp_path}/sticks?train=12&val=0&test=12&size=48x32&persons=1x1x1"
    monkeypatch.setattr(data_module, "DEFAULT_DATA", spec)
    steps: list[str] = []
    notes: list[str] = []
    callbacks = collecting_titles(steps, notes)
    bundle = export(replace(request_for, data=DataPlan(None)), callbacks)
    assert len(notes) == 3
    assert "assumed clip: 4 frames at 8/s" in notes[0]
    assert notes[0] in bundle.manifest.decisions
    assert "stick-actions, generated on first use" in notes[1]
    assert notes[2].startswith("accuracy not measured: data set 'stick-actions' has 12 labels")
    assert notes[2].endswith("give --labels FILE (one label a line, in the order of the model's outputs)")
    assert steps.index("reading the data") < steps.index("converting to ONNX")
    for step in ("loading the model", "calibration clips", "converting to ONNX", "writing the bundle"):
        assert step in steps
    assert {artifact.precision for artifact in bundle.manifest.artifacts} == {"fp16", "fp32"}
    assert bundle.measurements is not None
    assert Int8Omitted(cause="no-data") in bundle.measurements.decisions
    assert any("accuracy not measured: data set 'stick-actions' has 12" in each for each in bundle.manifest.decisions)
    with pytest.raises(CalibrationError, check=names("was not trained on stick-actions; give clips of its own")):
        export(replace(request_for, data=DataPlan(None), precision="int8"))


def test_too_few_clips_are_refused_for_int8_only(request_for: Case, tmp_path: Path) -> None:
    few = DataPlan(str(write_colours(tmp_path / "few", persons=6)))
    for precision in ("auto", "int8"):
        steps: list[str] = []
        with pytest.raises(CalibrationError, check=names("expected at least 32 calibration clips")):
            export(
                replace(request_for, data=few, precision=precision),
                collecting_titles(steps),
            )
        assert "converting to ONNX" not in steps
    assert not request_for.out.exists()
    export(replace(request_for, data=few, precision="fp16"))
    export(replace(request_for, data=few, target="nano", out=request_for.out.with_name("nano.edgeact")))  # has no INT8
    accepted = export(replace(request_for, data=replace(few, accept_poor=True), precision="int8"))
    assert accepted.manifest.calibration is not None
    assert accepted.manifest.calibration.clips < 32


def test_what_random_clips_calibrate_is_measured_and_thrown_out(
    request_for: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = f"stick-actions:{tmp_path}/sticks?train=12&val=0&test=12&size=48x32&persons=1x1x1"
    monkeypatch.setattr(data_module, "DEFAULT_DATA", spec)
    with pytest.raises(CalibrationError, check=names("random clips calibrate nothing")):
        export(replace(request_for, data=DataPlan(RANDOM_DATA)))
    plan = DataPlan(RANDOM_DATA, calibration_clips=8, accept_poor=True)
    bundle = export(replace(request_for, data=plan, load=replace(request_for.load, random_weights=True)))
    assert "accuracy not measured: the weights are random" in bundle.manifest.decisions
    assert bundle.measurements is not None
    rows = {row.artifact: row for row in bundle.measurements.rows}
    assert rows["trt-int8"].verdict == "rejected"
    assert isinstance(rows["trt-int8"].typed_reason, ParityTooLow)
    assert {artifact.precision for artifact in bundle.manifest.artifacts} == {"fp16", "fp32"}
    assert bundle.manifest.calibration is None


class _Overflowing(ColourNet):
    """Its activations reach a million on the way and come back: more than FP16 holds."""

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        large = torch.relu(self.norm(self.stem(clip))) * 1e6
        features = (torch.relu(self.body(large)) * 1e-6).mean(dim=(2, 3, 4))
        logits: torch.Tensor = self.head(features)
        return logits


@pytest.mark.parametrize("target", ["rtx-4090", "orin-nano-8gb"])
def test_fp16_does_not_overflow_silently(target: str, request_for: Case) -> None:
    bundle = export(replace(request_for, source=_Overflowing(), precision="fp16", target=target))
    (artifact,) = [one for one in bundle.manifest.artifacts if not one.is_engine]
    assert any("65504" in reason or "FP16" in reason for reason in artifact.float_layers.values())
    assert float(artifact.note.split("largest activation ")[1].split()[0]) > 65504
    assert bundle.measurements is not None
    assert all(row.parity.passed for row in bundle.measurements.rows if row.parity)


class _Unconvertible(ColourNet):
    """What it does depends on what it sees."""

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        if float(clip.mean()) > 0.5:
            return super().forward(clip) * 2
        return super().forward(clip)


class _ThreeClasses(ColourNet):
    def __init__(self) -> None:
        super().__init__(3)


class _Narrow(nn.Module):
    """Fewer channels than any board computes in INT8."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv3d(3, 6, 3, padding=1), nn.Conv3d(6, 4, 1)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(torch.relu(self.first(clip)).mean(dim=(2, 3, 4), keepdim=True)).flatten(1)
        return logits


def _narrow_net() -> nn.Module:
    torch.manual_seed(0)
    return _Narrow()


def _with_nan() -> nn.Module:
    module = ColourNet()
    with torch.no_grad():
        module.body.weight[0, 0, 0, 0, 0] = float("nan")
    return module


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"target": "jetsen"}, UnknownNameError, "did you mean jetson"),
        ({"source": "r3d-81"}, UnknownNameError, "did you mean r3d-18"),
        ({"out": Path("made.zip")}, UsageError, "expected --out FILE.edgeact"),
        ({"source": _ThreeClasses()}, ModelError, "returns 3 logits, but there are 4 labels"),
        ({"source": _with_nan()}, WeightsError, "'body.weight' holds NaN"),
        ({"source": _Unconvertible()}, ConversionError, "control flow"),
        ({"target": "nano", "precision": "int8"}, UsageError, "about INT8, which Jetson Nano"),
        ({"max_drop_points": float("inf")}, UsageError, "expected --max-drop from 0, and finite"),
        (
            {"source": _narrow_net(), "target": "orin-nano-8gb", "precision": "int8"},
            ConversionError,
            "no INT8: every",
        ),
    ],
)
def test_refusals_keep_the_earlier_bundle(
    changes: dict[str, object], error: type[Exception], words: str, request_for: Case
) -> None:
    request_for.out.write_bytes(b"an earlier bundle")
    with pytest.raises(error) as caught:
        export(replace(request_for, **changes))  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert request_for.out.read_bytes() == b"an earlier bundle"
    assert [path.name for path in request_for.out.parent.iterdir() if path.name.startswith(".")] == []


def test_a_folder_is_no_bundle(request_for: Case) -> None:
    request_for.out.mkdir()
    with pytest.raises(UsageError, check=names("is a folder")):
        export(request_for)


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_loaded(
    request_for: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    steps: list[str] = []
    for below in ("file/made.edgeact", "file/deep/made.edgeact"):
        with pytest.raises(
            UsageError, check=names("expected a folder, but '", "file' is a file; choose another --out")
        ):
            export(replace(request_for, out=tmp_path / below), collecting_titles(steps))
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # root may write everywhere
    for below in ("made.edgeact", "not/there/made.edgeact"):
        with pytest.raises(UsageError, check=names(f"'{tmp_path}' is not writable", "--out")):
            export(replace(request_for, out=tmp_path / below), collecting_titles(steps))
    assert steps == []
    assert not (tmp_path / "not").exists()


def test_a_recipe_is_json_and_travels_in_the_bundle(cpu_bundle: Bundle, tmp_path: Path) -> None:
    recipe = read_recipe(cpu_bundle.path)
    assert recipe.load.clip == cpu_bundle.manifest.clip
    assert recipe.load.labels == cpu_bundle.manifest.labels
    assert recipe.weights_sha256 == cpu_bundle.manifest.model.weights_sha256
    (tmp_path / "recipe.json").write_bytes(recipe.to_json())
    assert read_recipe(tmp_path / "recipe.json") == recipe


def test_a_bundle_is_reproduced_from_its_recipe(request_for: Case, tmp_path: Path) -> None:
    first = export(replace(request_for, source="tests.export.colours:colour_net"))
    again = build(read_recipe(first.path), out=tmp_path / "again.edgeact").bundle
    assert again.manifest.artifacts == first.manifest.artifacts
    assert (
        _members(again).items()
        >= {path: data for path, data in _members(first).items() if path != "manifest.json"}.items()
    )


@pytest.mark.parametrize(
    ("change", "error"), [({"weights_sha256": "0" * 64}, WeightsError), ({"data_digest": "0" * 64}, DataError)]
)
def test_a_recipe_of_other_weights_or_videos_is_refused(
    change: dict[str, str], error: type[Exception], cpu_bundle: Bundle
) -> None:
    recipe = replace(read_recipe(cpu_bundle.path), **change)  # type: ignore[arg-type]
    with pytest.raises(error, check=names("the recipe is of other")):
        build(recipe, through("load"))


def test_a_recipe_of_a_module_object_asks_for_it(request_for: Case, tmp_path: Path) -> None:
    recipe = read_recipe(export(replace(request_for, precision="fp32")).path)
    assert recipe.is_module_object
    with pytest.raises(UsageError, check=names("module object of class 'ColourNet'")):
        build(recipe, through("load"))
    made = build(recipe, through("load"), module=ColourNet())
    assert made.inputs.model.labels == LABELS


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"target": "cpu", "surplus": 1}'])
def test_a_file_that_is_no_recipe_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, check=names("is no recipe")):
        read_recipe(tmp_path / "x.json")


def test_stages_run_in_order_and_a_build_is_continued(cpu_bundle: Bundle) -> None:
    recipe = read_recipe(cpu_bundle.path)
    with pytest.raises(UsageError, check=names("without a gap")):
        build(recipe, ("load", "lower"))
    loaded = build(recipe, through("load"))
    assert loaded.stages == ("load",)
    with pytest.raises(RuntimeError, check=names("the stage 'lower' of this build has not run")):
        _ = loaded.lowered
    lowered = build(loaded, through("lower"))
    assert lowered.stages == ("load", "prune", "train", "lower")
    assert lowered.inputs is loaded.inputs
