from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.bench import (
    BenchOptions,
    Comparison,
    check_comparable,
    compare,
    junit_xml,
    parse_limit,
    read_record,
    summarize,
)
from edgeact.devices import probe_machine
from edgeact.errors import BaselineError, RegressionError, UsageError
from tests.bench.bundles import make_golden_bundle
from tests.bench.making import make_record
from tests.messages import names


def _outcomes(slowdown: float) -> list[str]:
    pairs = ((make_record(10.0, seed=2 * i), make_record(10.0 * slowdown, seed=2 * i + 1)) for i in range(40))
    return [compare(was, now, max_regression=0.10).outcome for was, now in pairs]


@pytest.mark.slow
def test_compare_passes_noise() -> None:
    assert _outcomes(1.0) == ["pass"] * 40


@pytest.mark.slow
def test_compare_rarely_fails_a_slowdown_at_the_limit() -> None:
    assert _outcomes(1.10).count("regression") <= 8


@pytest.mark.slow
def test_compare_fails_a_slowdown_of_15_percent_with_a_limit_of_10() -> None:
    assert _outcomes(1.15).count("regression") >= 38


@pytest.mark.parametrize(("runs", "outcome"), [(1, "unproven"), (19, "unproven"), (20, "regression")])
def test_compare_with_too_few_runs_is_unproven(runs: int, outcome: str) -> None:
    comparison = compare(make_record(10.0), make_record(20.0, runs=runs, seed=1))
    assert comparison.outcome == outcome
    assert ("larger --runs" in (comparison.inconclusive or "")) == (outcome == "unproven")


def test_compare_of_a_slower_median_in_much_noise_is_unproven() -> None:
    spread = np.random.default_rng(0).permutation(np.linspace(1.0, 40.0, 41))
    was, now = (
        make_record(latency=summarize((scale * spread).tolist(), warmup_runs=5, threads=2)) for scale in (1.0, 1.15)
    )
    comparison = compare(was, now)
    assert comparison.ratio > 1.1
    assert comparison.outcome == "unproven"
    comparison.raise_on_regression()
    assert comparison.inconclusive


def test_compare_is_inconclusive_if_the_bounds_reach_beyond_the_limit() -> None:
    spread = np.random.default_rng(0).permutation(np.linspace(1.0, 40.0, 41))
    record = make_record(latency=summarize(spread.tolist(), warmup_runs=5, threads=2))
    comparison = compare(record, record)
    assert comparison.outcome == "pass"
    reach = f"the bounds reach {comparison.ratio_bounds.high - 1:+.1%}, beyond the allowed +10.0%"
    assert comparison.inconclusive == f"inconclusive: {reach}: more --runs or a quieter machine"
    case = ElementTree.fromstring(junit_xml(record, comparison).encode()).find("testsuite/testcase")
    assert case is not None
    assert case.findtext("system-err") == comparison.inconclusive
    assert compare(record, record, max_regression=5.0).inconclusive is None
    assert compare(record, record, min_delta_ms=100.0).inconclusive is None


def test_compare_of_precise_measurements_is_conclusive() -> None:
    for candidate in (make_record(10.0, seed=1), make_record(20.0, seed=1)):
        comparison = compare(make_record(10.0), candidate)
        assert comparison.inconclusive is None
        assert "system-err" not in junit_xml(candidate, comparison)


def test_compare_passes_a_large_ratio_of_a_negligible_latency() -> None:
    assert compare(make_record(0.02), make_record(0.04, seed=1)).outcome == "pass"
    assert compare(make_record(0.02), make_record(0.04, seed=1), min_delta_ms=0.0).outcome == "regression"


def test_compare_passes_a_faster_build() -> None:
    comparison = compare(make_record(10.0), make_record(7.0, seed=1))
    assert comparison.outcome == "pass"
    assert comparison.ratio == pytest.approx(0.7, rel=0.05)


@pytest.mark.slow
@settings(max_examples=25)
@given(st.floats(0, 1), st.floats(0, 1))
def test_compare_is_monotonic_in_the_limit(first: float, second: float) -> None:
    baseline, candidate = make_record(10.0, runs=20), make_record(14.0, runs=20, seed=1)
    results = [compare(baseline, candidate, max_regression=limit) for limit in sorted((first, second))]
    assert (results[0].outcome != "pass") >= (results[1].outcome != "pass")
    assert (results[0].outcome == "regression") or (results[1].outcome != "regression")


def test_a_regression_raises_with_both_medians() -> None:
    comparison = compare(make_record(10.0), make_record(20.0))
    assert comparison.outcome == "regression"
    with pytest.raises(
        RegressionError, match=r"openvino-int8: SLOWER: p50 \d+\.\d+ ms .* \+100\.0%.* allowed \+10\.0%"
    ):
        comparison.raise_on_regression()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cores": 8}, "cores was 8, is 4"),
        ({"processor": "Other CPU"}, "processor was Other CPU, is Test CPU"),
        ({"power_mode": "15W"}, "power_mode was 15W, is None"),
        ({"threads": 1}, "threads was 1, is 2"),
        ({"model": "r3d-18"}, "model was r3d-18, is msf-r3d-fsam"),
        ({"artifact": "onnx"}, "artifact was onnx, is openvino-int8"),
        ({"precision": "fp32"}, "precision was fp32, is int8"),
        ({"backend": "onnxruntime"}, "backend was onnxruntime, is openvino"),
        ({"device": "GPU"}, "device was GPU, is CPU"),
        ({"input_shape": (1, 3, 16, 112, 112)}, "input_shape was (1, 3, 16, 112, 112), is (1, 3, 8, 112, 112)"),
        ({"input_source": "random"}, "input_source was random, is None"),
    ],
)
def test_compare_refuses_other_machines_and_artifacts(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BaselineError) as caught:
        compare(make_record(**change), make_record())
    assert message in str(caught.value)
    assert "edgeact bench BUNDLE --out FILE" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, BenchOptions(), None),
        ({}, BenchOptions(artifact="fp32"), None),
        ({"machine": {"processor": "Other CPU"}}, BenchOptions(), "processor was Other CPU"),
        ({"model": "r3d-18"}, BenchOptions(), "model was r3d-18"),
        ({"artifact": "int8"}, BenchOptions(), "artifact was int8, the bundle has fp32"),
        ({"artifact": "int8"}, BenchOptions(artifact="fp32"), "artifact was int8, is fp32"),
        ({}, BenchOptions(backend="openvino"), "backend was onnxruntime, is openvino"),
        ({}, BenchOptions(threads=1), "threads was None, is 1"),
        ({"input_shape": (1, 3, 64, 8, 8)}, BenchOptions(), "input_shape was (1, 3, 64, 8, 8)"),
    ],
)
def test_check_comparable_refuses_before_a_measurement(
    tmp_path: Path, change: dict[str, Any], options: BenchOptions, message: str | None
) -> None:
    bundle = make_golden_bundle(tmp_path / "tiny.edgeact")
    machine = probe_machine(()).model_copy(update=change.get("machine", {}))
    latency = summarize([1.0] * 30, warmup_runs=5, threads=None)
    shape = bundle.manifest.clip.input_shape
    expected = {"model": bundle.manifest.model.name, "artifact": "fp32", "backend": "onnxruntime", "input_shape": shape}
    baseline = make_record().model_copy(update={**expected, "latency": latency, **change, "machine": machine})
    if message is None:
        check_comparable(baseline, bundle, options)
    else:
        with pytest.raises(BaselineError) as caught:
            check_comparable(baseline, bundle, options)
        assert message in str(caught.value)


def test_compare_notes_other_library_versions() -> None:
    old = make_record(versions={"openvino": "2025.0", "numpy": "2.0"})
    comparison = compare(old, make_record(bundle_digest="b" * 64, notes=("the CPU clock changed",)))
    assert comparison.outcome == "pass"
    assert set(comparison.notes) == {
        "numpy 2.0 -> absent",
        "openvino 2025.0 -> 2026.4.1",
        "another bundle: aaaaaaaaaaaa -> bbbbbbbbbbbb",
        "now: the CPU clock changed",
    }


def test_compare_refuses_a_record_without_samples() -> None:
    record = make_record()
    bare = record.model_copy(update={"latency": record.latency.model_copy(update={"samples_ms": ()})})
    with pytest.raises(BaselineError, check=names("latency samples")):
        compare(bare, record)


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), -0.1])
@pytest.mark.parametrize("name", ["max_regression", "min_delta_ms"])
def test_compare_refuses_limits_that_disable_the_gate(name: str, limit: float) -> None:
    with pytest.raises(UsageError, check=names("disable the gate")):
        compare(make_record(), make_record(), **{name: limit})


@pytest.mark.parametrize(("text", "limit"), [("10%", 0.1), ("0.1", 0.1), (" 5 % ", 0.05), ("0", 0.0), ("150%", 1.5)])
def test_parse_limit_reads_percentages_and_fractions(text: str, limit: float) -> None:
    assert parse_limit(text) == pytest.approx(limit)


@pytest.mark.parametrize("text", ["", "%", "ten", "10%%", "nan", "inf%", "-1%", "1,5%"])
def test_parse_limit_refuses_other_texts(text: str) -> None:
    with pytest.raises(UsageError, check=names("limit")):
        parse_limit(text)


def test_read_record_returns_what_was_written(tmp_path: Path) -> None:
    record = make_record()
    (tmp_path / "base.json").write_text(record.model_dump_json())
    assert read_record(tmp_path / "base.json") == record


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not a latency record"), ('{"kind": "measurements"}', "kind"), (None, "cannot read")],
)
def test_read_record_refuses_damaged_files(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "base.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BaselineError, check=names(message)):
        read_record(path)


def test_read_record_refuses_another_major_version(tmp_path: Path) -> None:
    (tmp_path / "base.json").write_text(make_record(schema_version="2.0").model_dump_json())
    with pytest.raises(BaselineError, match=r"expected record version 1\.\d+, got 2\.0"):
        read_record(tmp_path / "base.json")


def test_junit_xml_has_pass_failure_and_error() -> None:
    record = make_record()
    outcomes: list[tuple[Comparison | BaselineError, str, str]] = [
        (compare(record, record), "0", "0"),
        (compare(record, make_record(20.0)), "1", "0"),
        (BaselineError('another <machine> & "board"'), "0", "1"),
    ]
    for outcome, failures, errors in outcomes:
        suite = ElementTree.fromstring(junit_xml(record, outcome).encode()).find("testsuite")
        assert suite is not None
        assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", failures, errors)
        case = suite.find("testcase")
        assert case is not None
        assert case.get("classname") == record.model
        assert (case.find("failure") is not None) == (failures == "1")
        assert (case.find("error") is not None) == (errors == "1")
