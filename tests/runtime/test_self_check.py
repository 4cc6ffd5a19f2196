"""The self-check at load: what fails is rejected with its stage and figure, and the next artifact runs."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from edgeact import runtime
from edgeact.bundle import Artifact
from edgeact.errors import SelfCheckError, UsageError
from edgeact.precision import Precision
from edgeact.runtime import FakeBackend, FallbackWarning
from edgeact.runtime.self_check import logits_snr_db, network_limit_db
from tests.bench.bundles import make_checked_bundle, make_golden_bundle
from tests.messages import names
from tests.runtime.making import LABELS, ArtifactSpec, colored, make_bundle, tiny_onnx


def _wrong_graph() -> bytes:
    """Return the graph with the head's red and green columns exchanged, as a valid model of the same size."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(tiny_onnx())
    (head,) = (tensor for tensor in model.graph.initializer if tensor.name == "head")
    head.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(head)[:, [0, 2, 1, 3]].copy(), "head"))
    return bytes(model.SerializeToString())


WRONG = ArtifactSpec("wrong", ("onnxruntime",), members={"wrong.onnx": ("graph", _wrong_graph())})
RIGHT = ArtifactSpec("right", ("onnxruntime",))


def test_an_artifact_that_computes_what_the_bundle_states_is_used(tmp_path: Path) -> None:
    path = make_checked_bundle(tmp_path / "b.edgeact").path
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with runtime.load(path, threads=1) as recognizer:
            check = recognizer.choice.check
            assert recognizer.predict(colored(1)).label == "green"
    assert check is not None
    assert check.verdict == "passed"
    assert [result.stage for result in check.stages] == ["decode", "resize", "normalize", "network"]
    assert (check.stages[-1].figure or 0) > 100


@pytest.mark.parametrize("threads", [None, 1])
def test_an_artifact_that_computes_other_logits_is_rejected_and_the_next_runs(
    tmp_path: Path, threads: int | None
) -> None:
    path = make_checked_bundle(tmp_path / "b.edgeact", [WRONG, RIGHT]).path
    for _ in range(2):  # the second time from the cache
        with pytest.warns(FallbackWarning, match=r"right on onnxruntime .* instead of wrong on onnxruntime: .*network"):
            recognizer = runtime.load(path, threads=threads)
        recognizer.close()
        (rejected,) = recognizer.choice.rejected
        assert isinstance(rejected.error, SelfCheckError)
        (failure,) = rejected.error.failures
        assert (failure.artifact, failure.backend, failure.result.stage) == ("wrong", "onnxruntime", "network")
        assert (failure.result.figure or 0) < 10 < (failure.result.limit or 0)


def test_if_every_artifact_fails_the_error_names_stage_and_figure(tmp_path: Path) -> None:
    twice = ArtifactSpec("again", ("openvino",), members=WRONG.members)
    path = make_checked_bundle(tmp_path / "b.edgeact", [WRONG, twice]).path
    with pytest.raises(
        SelfCheckError, check=names("network", "dB", "wrong on onnxruntime", "again on openvino")
    ) as caught:
        runtime.load(path)
    assert [failure.artifact for failure in caught.value.failures] == ["wrong", "again"]
    assert caught.value.exit_code == 13
    assert pickle.loads(pickle.dumps(caught.value)).failures == caught.value.failures
    with runtime.load(path, check="never") as recognizer:
        assert recognizer.choice.check is None


def test_a_failed_check_is_told_rather_than_what_is_not_installed(tmp_path: Path) -> None:
    jetson = ArtifactSpec("jetson", ("tensorrt",))
    with pytest.raises(SelfCheckError, check=names("wrong on onnxruntime", "jetson on tensorrt")):
        runtime.load(make_checked_bundle(tmp_path / "b.edgeact", [jetson, WRONG]).path)


def test_preprocessing_that_differs_rejects_every_artifact(tmp_path: Path) -> None:
    path = make_checked_bundle(tmp_path / "b.edgeact", input_mean=(1.0, 2.0, 3.0)).path
    with pytest.raises(SelfCheckError) as caught:
        runtime.load(path)
    assert [failure.result.stage for failure in caught.value.failures] == ["normalize"]


def test_a_session_that_fails_its_check_is_closed(tmp_path: Path) -> None:
    backend = FakeBackend(computes=True)
    with pytest.raises(SelfCheckError):
        runtime.load(make_checked_bundle(tmp_path / "b.edgeact").path, backend=backend)
    assert (len(backend.opened), backend.closed) == (1, 1)


def test_a_known_failure_is_reported_without_opening_again(tmp_path: Path) -> None:
    path = make_checked_bundle(tmp_path / "b.edgeact").path
    with pytest.raises(SelfCheckError):
        runtime.load(path, backend=FakeBackend(computes=True))
    backend = FakeBackend(computes=True)
    with pytest.raises(SelfCheckError):
        runtime.load(path, backend=backend)
    assert not backend.opened
    with pytest.raises(SelfCheckError):
        runtime.load(path, backend=backend, check="always")
    assert len(backend.opened) == 1


def test_a_stand_in_is_not_checked(tmp_path: Path) -> None:
    path = make_checked_bundle(tmp_path / "b.edgeact").path
    with runtime.load(path, backend=FakeBackend(logits=np.zeros(len(LABELS), np.float32))) as recognizer:
        assert recognizer.choice.check is None


def test_bundles_without_golden_data_open_as_before(tmp_path: Path) -> None:
    with runtime.load(make_bundle(tmp_path / "none.edgeact").path) as recognizer:
        assert recognizer.choice.check is not None
        assert recognizer.choice.check.verdict == "not-checked"
    with runtime.load(make_golden_bundle(tmp_path / "old.edgeact").path) as recognizer:
        assert recognizer.choice.check is not None
        assert recognizer.choice.check.verdict == "passed"


def test_an_unknown_mode_is_refused(bundle_path: Path) -> None:
    with pytest.raises(UsageError, check=names("check", "auto, always, never", "'once'")):
        runtime.load(bundle_path, check="once")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        runtime.load(bundle_path, chek="auto")  # type: ignore[call-arg]


def _artifact(precision: Precision, golden_logits: tuple[float, ...]) -> Artifact:
    return Artifact(
        name="a", kind="onnx", precision=precision, backends=("b",), members=("c",), golden_logits=golden_logits
    )


@pytest.mark.parametrize(
    ("precision", "error", "limit_db"),
    [("fp32", 1e-5, 60.0), ("fp16", 1e-3, 20.0), ("int8", 0.01, 20.0), ("int8", 0.05, 16.0), ("int8", 0.1, 10.0)],
)
def test_the_limit_follows_the_error_of_quantization(precision: Precision, error: float, limit_db: float) -> None:
    pytorch = (3.0, 0.0, 4.0)
    assert network_limit_db(_artifact(precision, (3.0, 5 * error, 4.0)), pytorch) == limit_db


def test_an_artifact_without_logits_is_held_to_the_limit_of_an_export() -> None:
    assert network_limit_db(_artifact("fp32", ()), (3.0, 4.0)) == 10.0


def test_the_snr_of_logits() -> None:
    assert logits_snr_db([3.0, 4.0], [3.0, 4.0]) == 160.0
    assert logits_snr_db([3.0, 4.0], [3.0, 4.5]) == 20.0
    assert logits_snr_db([0.0, 0.0], [1.0, 0.0]) == -300.0
