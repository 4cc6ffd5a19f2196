"""What is chosen, what is rejected and why, and that a fallback is reported."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from edgeact import runtime
from edgeact.bundle import vouch
from edgeact.errors import (
    BackendUnavailableError,
    DeviceError,
    UnknownNameError,
    UntrustedEngineError,
    UsageError,
)
from edgeact.runtime import FakeBackend, FallbackWarning
from edgeact.runtime.choice import Mismatch, find_mismatch
from tests.messages import names
from tests.runtime.making import ArtifactSpec, make_bundle, tiny_onnx

ENGINE = ArtifactSpec("engine", ("tensorrt-rtx",), "tensorrt-rtx-engine", {"tiny.engine": ("engine", b"machine code")})


def test_the_first_artifact_that_runs_is_chosen_without_warning(tmp_path: Path) -> None:
    path = make_bundle(
        tmp_path / "b.edgeact",
        [ArtifactSpec("first", ("openvino", "onnxruntime")), ArtifactSpec("second", ("openvino",))],
    ).path
    with warnings.catch_warnings(), runtime.load(path, threads=1) as recognizer:
        warnings.simplefilter("error")
        choice = recognizer.choice
    assert (choice.artifact, choice.backend, choice.device, choice.is_fallback) == ("first", "openvino", "CPU", False)


def test_a_fallback_is_reported_with_its_reason(tmp_path: Path) -> None:
    path = make_bundle(
        tmp_path / "b.edgeact", [ArtifactSpec("jetson", ("tensorrt",)), ArtifactSpec("cpu", ("openvino",))]
    ).path
    with pytest.warns(
        FallbackWarning, match=r"running cpu on openvino \(CPU\) instead of jetson on tensorrt: .*JetPack"
    ):
        recognizer = runtime.load(path)
    recognizer.close()
    assert recognizer.choice.is_fallback
    assert [(each.artifact, each.backend) for each in recognizer.choice.rejected] == [("jetson", "tensorrt")]


def test_the_warning_points_at_the_callers_line(tmp_path: Path) -> None:
    path = make_bundle(
        tmp_path / "b.edgeact", [ArtifactSpec("a", ("tensorrt",)), ArtifactSpec("b", ("openvino",))]
    ).path
    with pytest.warns(FallbackWarning) as caught:
        runtime.load(path).close()
    assert caught[0].filename == __file__


def test_a_backend_that_fails_to_open_is_skipped_and_reported(tmp_path: Path) -> None:
    ways = [
        ArtifactSpec("broken", ("openvino",), members={"bad.onnx": ("graph", b"not a graph")}),
        ArtifactSpec("good", ("openvino",)),
    ]
    path = make_bundle(tmp_path / "b.edgeact", ways).path
    with pytest.warns(FallbackWarning, match="broken on openvino: openvino failed while opening"):
        runtime.load(path).close()


def test_the_users_choice_is_kept(tmp_path: Path) -> None:
    path = make_bundle(
        tmp_path / "b.edgeact", [ArtifactSpec("one", ("openvino", "onnxruntime")), ArtifactSpec("two", ("openvino",))]
    ).path
    with runtime.load(path, backend="onnxruntime") as recognizer:
        assert (recognizer.choice.artifact, recognizer.choice.backend) == ("one", "onnxruntime")
        assert not recognizer.choice.is_fallback
    with runtime.load(path, artifact="two") as recognizer:
        assert recognizer.choice.artifact == "two"


def test_a_reason_is_stated_once_for_all_that_it_rejects(tmp_path: Path) -> None:
    ways = [ArtifactSpec("one", ("abacus",)), ArtifactSpec("two", ("abacus",))]
    with pytest.raises(BackendUnavailableError) as caught:
        runtime.load(make_bundle(tmp_path / "b.edgeact", ways).path)
    assert "one on abacus, two on abacus: " in str(caught.value)
    assert str(caught.value).count("no backend 'abacus'") == 1


def test_nothing_that_runs_lists_every_reason(tmp_path: Path) -> None:
    ways = [
        ArtifactSpec("jetson", ("tensorrt",)),
        ArtifactSpec("future", ("abacus",)),
        ArtifactSpec("cpu", ("openvino",), requires={"openvino": ">=3000"}),
    ]
    path = make_bundle(tmp_path / "b.edgeact", ways).path
    with pytest.raises(BackendUnavailableError) as caught:
        runtime.load(path)
    for part in ("jetson on tensorrt", "no backend 'abacus'", "requires openvino >=3000, got 20"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backend": "openvin"}, UnknownNameError, "did you mean openvino"),
        ({"artifact": "fp23"}, UnknownNameError, "did you mean fp32"),
        (
            {"backend": "openvino"},
            BackendUnavailableError,
            r"backend 'openvino' opens none of the artifacts fp32; expected one of onnxruntime",
        ),
        ({"threads": 0}, UsageError, "threads: expected 1 or more, got 0"),
        ({"device": "CUDA:7"}, BackendUnavailableError, "CUDA:7"),
    ],
)
def test_arguments_that_nothing_meets(
    bundle_path: Path, arguments: dict[str, object], error: type, message: str
) -> None:
    with pytest.raises(error, check=names(message)):
        runtime.load(bundle_path, **arguments)  # type: ignore[arg-type]


def test_an_untrusted_engine_is_refused(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "b.edgeact", [ENGINE]).path
    with pytest.raises(UntrustedEngineError, check=names("executable code")):
        runtime.load(path)
    backend = FakeBackend()
    with pytest.raises(UntrustedEngineError):
        runtime.load(path, backend=backend)
    assert not backend.opened


def test_an_engine_opens_when_trusted_or_vouched_for(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b.edgeact", [ENGINE])
    backend = FakeBackend()
    runtime.load(bundle.path, backend=backend, trust_engines=True).close()
    vouch(bundle.manifest.members[0].sha256)
    runtime.load(bundle.path, backend=backend).close()
    assert [request.graph for request in backend.opened] == [b"machine code"] * 2


def test_without_trust_the_engine_is_rebuilt_from_the_graph(tmp_path: Path) -> None:
    ways = [ENGINE, ArtifactSpec("graph", ("tensorrt-rtx",), members={"tiny.onnx": ("graph", tiny_onnx())})]
    backend = FakeBackend()
    with pytest.warns(FallbackWarning, match="executable code"):
        runtime.load(make_bundle(tmp_path / "b.edgeact", ways).path, backend=backend).close()
    assert [request.kind for request in backend.opened] == ["onnx"]


def test_requirements_are_compared_with_the_backends_facts(tmp_path: Path) -> None:
    needs = ArtifactSpec("engine", ("fake",), requires={"sm": "8.9", "tensorrt-rtx": "1.7.1"})
    path = make_bundle(tmp_path / "b.edgeact", [needs]).path
    runtime.load(path, backend=FakeBackend(properties={"sm": "8.9", "tensorrt-rtx": "1.7.1.116"})).close()
    with pytest.raises(BackendUnavailableError, check=names("'engine' requires sm 8.9, got 8.6")):
        runtime.load(path, backend=FakeBackend(properties={"sm": "8.6", "tensorrt-rtx": "1.7.1.116"}))


def test_a_request_has_members_by_role(tmp_path: Path) -> None:
    recipe = ArtifactSpec("trt", ("fake",), "tensorrt-recipe", {"g.onnx": ("graph", b"G"), "r.json": ("recipe", b"R")})
    ir = ArtifactSpec("ir", ("fake",), "openvino-ir", {"m.xml": ("graph", b"X"), "m.bin": ("weights", b"W")})
    path = make_bundle(tmp_path / "b.edgeact", [recipe, ir]).path
    backend = FakeBackend()
    for name in ("trt", "ir"):
        runtime.load(path, backend=backend, artifact=name).close()
    assert [(request.graph, request.weights, request.recipe) for request in backend.opened] == [
        (b"G", None, b"R"),
        (b"X", b"W", None),
    ]


def test_a_backend_instance_reports_its_failure(bundle_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, check=names("under repair")):
        runtime.load(bundle_path, backend=FakeBackend(unavailable="under repair"))
    with pytest.raises(DeviceError, check=names("broken")):
        runtime.load(bundle_path, backend=FakeBackend(fail_open="broken"))


@pytest.mark.parametrize(
    ("actual", "required", "met"),
    [
        ("8.9", "8.9", True),
        ("8.6", "8.9", False),
        ("10.3.0.30", "10.3", True),
        ("10.30", "10.3", False),
        ("10.3.0.30", ">=10.3,<11", True),
        ("11.0", ">=10.3,<11", False),
        ("9.3", ">=10.3", False),
        ("10", "10.0", True),
        ("8.6", "8.6, 8.9, 12.0", True),
        ("8.7", "8.6, 8.9, 12.0", False),
        ("linux", "linux", True),
        ("linux", "windows", False),
        ("10.3.0.30", ">=10,<11", True),
        ("11.0rc1", ">=11", False),
        ("11.4.1+jp7", ">=11", True),
        ("1.7.1.116", "==1.7.1.116", True),
        ("1.7.1.116", "1.7.1.116", True),
        ("8.5.2.2", "<11", True),
        ("unknown", ">=10", False),
    ],
)
def test_requirements(actual: str, required: str, met: bool) -> None:
    expected = None if met else Mismatch("key", required, actual)
    assert find_mismatch({"key": required}, {"key": actual}) == expected


def test_an_unknown_fact_is_not_met() -> None:
    mismatch = find_mismatch({"sm": "8.9"}, {})
    assert mismatch == Mismatch("sm", "8.9", None)
    assert str(mismatch) == "requires sm 8.9, got none"


def test_a_library_that_does_not_load_is_a_reason(bundle_path: Path) -> None:
    class Broken(FakeBackend):
        def why_unavailable(self) -> str | None:
            raise ImportError("libcudart.so.12: cannot open shared object file")

    with pytest.raises(BackendUnavailableError, check=names("fake is installed but does not load: libcudart")):
        runtime.load(bundle_path, backend=Broken())
