from __future__ import annotations

from pathlib import Path

import pytest

from edgeact.bench import BenchOptions, BenchPlan, bench_bundle, compare
from edgeact.devices import probe_machine
from edgeact.errors import BundleTruncatedError, UnknownNameError
from edgeact.progress import TIMED_STEP
from edgeact.records import LatencyRecord
from tests.bench.bundles import make_golden_bundle
from tests.runtime.making import CLIP, ArtifactSpec, make_bundle

pytestmark = pytest.mark.timing

PLAN = BenchPlan(warmup_runs=2, warmup_s=0.0, min_runs=70, min_s=0.0)
OPTIONS = BenchOptions(threads=1, plan=PLAN)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))


def test_bench_bundle_records_what_was_timed_and_where(tmp_path: Path) -> None:
    bundle = make_golden_bundle(tmp_path / "tiny.edgeact")
    steps: list[tuple[str, int, int]] = []
    record = bench_bundle(bundle.path, OPTIONS, lambda *step: steps.append(step))
    assert record.bundle_digest == bundle.digest
    assert (record.model, record.artifact, record.precision) == ("tiny", "fp32", "fp32")
    assert (record.backend, record.device) == ("onnxruntime", "CPU")
    assert record.input_shape == CLIP.input_shape
    assert record.input_source == "golden"
    assert record.machine.fingerprint == probe_machine().fingerprint
    assert "onnxruntime" in record.machine.versions
    assert (record.latency.runs, record.latency.threads) == (70, 1)
    assert record.latency.p90_ms is not None
    assert record.latency.p99_ms is None
    assert (steps[0], steps[-1]) == (("opening the bundle", 0, 0), (TIMED_STEP, 100, 100))
    assert {title for title, _, _ in steps[1:]} == {TIMED_STEP}
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)


def test_bench_bundle_stages_add_up(tmp_path: Path) -> None:
    record = bench_bundle(make_golden_bundle(tmp_path / "tiny.edgeact").path, OPTIONS)
    assert list(record.stages) == ["preprocess", "inference", "total"]
    parts = zip(*(record.stages[name].samples_ms for name in record.stages), strict=True)
    assert all(preprocess + inference <= total for preprocess, inference, total in parts)
    assert {stage.runs for stage in record.stages.values()} == {30}


def test_bench_bundle_without_a_golden_clip_records_random_input(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "tiny.edgeact").path
    assert bench_bundle(path, OPTIONS).input_source == "random"


def test_bench_bundle_without_opencv_times_the_session_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeact.bench.bench.is_installed", lambda module: module != "cv2")
    record = bench_bundle(make_golden_bundle(tmp_path / "tiny.edgeact").path, OPTIONS)
    assert (record.input_source, record.stages, record.latency.runs) == ("random", {}, 70)


def test_bench_bundle_notes_a_fallback(tmp_path: Path) -> None:
    ways = (ArtifactSpec("engine", ("tensorrt-rtx",), requires={"sm": "99.9"}), ArtifactSpec("fp32", ("onnxruntime",)))
    record = bench_bundle(make_bundle(tmp_path / "tiny.edgeact", ways).path, OPTIONS)
    assert record.artifact == "fp32"
    assert any("a fallback" in note and "engine on tensorrt-rtx" in note for note in record.notes)


def test_bench_bundle_records_of_the_same_bundle_are_comparable(tmp_path: Path) -> None:
    path = make_golden_bundle(tmp_path / "tiny.edgeact").path
    records = [bench_bundle(path, OPTIONS) for _ in range(2)]
    read_again = LatencyRecord.model_validate_json(records[0].model_dump_json())
    assert read_again == records[0]
    assert compare(read_again, records[1], max_regression=5.0).outcome == "pass"


def test_bench_bundle_refuses_unknown_names_and_bad_bundles(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "tiny.edgeact").path
    with pytest.raises(UnknownNameError):
        bench_bundle(path, BenchOptions(artifact="fp23"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BundleTruncatedError):
        bench_bundle(path)
