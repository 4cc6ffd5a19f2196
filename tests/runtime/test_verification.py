"""`runtime.verify`: every artifact on every backend that runs here, and what does not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeact import runtime
from edgeact.errors import BackendUnavailableError, SelfCheckError
from edgeact.runtime import FakeBackend
from tests.bench.bundles import make_checked_bundle
from tests.messages import names
from tests.runtime.making import ArtifactSpec, make_bundle
from tests.runtime.test_self_check import RIGHT, WRONG

JETSON = ArtifactSpec("jetson", ("tensorrt",))


def test_all_artifacts_are_checked_in_the_bundles_order(tmp_path: Path) -> None:
    both = ArtifactSpec("both", ("openvino", "onnxruntime"))
    path = make_checked_bundle(tmp_path / "b.edgeact", [JETSON, WRONG, both, RIGHT]).path
    verification = runtime.verify(path, threads=1)
    verdicts = {
        (each.artifact, each.backend): each.check.verdict if each.check else None for each in verification.artifacts
    }
    assert verdicts == {
        ("jetson", "tensorrt"): None,
        ("wrong", "onnxruntime"): "failed",
        ("both", "openvino"): "passed",
        ("both", "onnxruntime"): "passed",
        ("right", "onnxruntime"): "passed",
    }
    assert isinstance(verification.artifacts[0].error, BackendUnavailableError)
    assert verification.verdict == "failed"
    with pytest.raises(SelfCheckError, check=names("wrong on onnxruntime", "network")):
        verification.raise_on_failure()


def test_every_backend_is_checked_even_a_stand_in(tmp_path: Path) -> None:
    verification = runtime.verify(make_checked_bundle(tmp_path / "b.edgeact").path, backend=FakeBackend())
    assert [failure.result.stage for failure in verification.failures] == ["network"]


def test_a_load_uses_the_results_of_a_verification(tmp_path: Path, cache: Path) -> None:
    path = make_checked_bundle(tmp_path / "b.edgeact").path
    assert runtime.verify(path).verdict == "passed"
    (kept,) = (cache / "checks").iterdir()
    before = kept.stat().st_mtime_ns
    runtime.load(path).close()
    assert [(each, each.stat().st_mtime_ns) for each in (cache / "checks").iterdir()] == [(kept, before)]


def test_an_artifact_that_fails_to_open_is_listed(tmp_path: Path) -> None:
    broken = ArtifactSpec("broken", ("openvino",), members={"bad.onnx": ("graph", b"no graph")})
    verification = runtime.verify(make_checked_bundle(tmp_path / "b.edgeact", [broken, RIGHT]).path)
    first, second = verification.artifacts
    assert first.check is None
    assert names("openvino failed while opening")(first.error or Exception())
    assert second.check is not None
    assert verification.verdict == "passed"


def test_without_golden_data_nothing_is_checked(tmp_path: Path) -> None:
    verification = runtime.verify(make_bundle(tmp_path / "b.edgeact").path)
    assert verification.verdict == "not-checked"
    verification.raise_on_failure()


def test_a_bundle_of_which_nothing_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, check=names("tensorrt")):
        runtime.verify(make_checked_bundle(tmp_path / "b.edgeact", [JETSON]).path)
