"""The latency-regression test of a team's CI, as it is called there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edgeact.bench import summarize
from edgeact.cli.main import main
from edgeact.records import LatencyRecord
from tests.bench.bundles import make_golden_bundle

pytestmark = pytest.mark.timing

QUICK = ("--runs", "70", "--threads", "1")


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    return make_golden_bundle(tmp_path / "tiny.edgeact").path


@pytest.fixture
def baseline(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record of this machine, as `edgeact bench BUNDLE --out FILE` leaves it."""
    path = tmp_path / "baseline.json"
    assert _edgeact(monkeypatch, str(bundle), *QUICK, "--out", str(path)) == 0
    return path


def _edgeact(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `edgeact bench` as the console script does; its exit code."""
    monkeypatch.setattr(sys, "argv", ["edgeact", "bench", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def _scale(path: Path, factor: float, **changes: object) -> None:
    """Make the record at `path` one of a build that was `factor` times as slow."""
    record = LatencyRecord.model_validate_json(path.read_bytes())
    samples = [factor * value for value in record.latency.samples_ms]
    latency = summarize(samples, warmup_runs=record.latency.warmup_runs, threads=record.latency.threads)
    path.write_text(record.model_copy(update={"latency": latency, **changes}).model_dump_json())


def test_the_table_shows_the_record(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _edgeact(monkeypatch, str(bundle), *QUICK, "--out", str(tmp_path / "record.json")) == 0
    record = LatencyRecord.model_validate_json((tmp_path / "record.json").read_bytes())
    out = capsys.readouterr().out
    for latency in (record.latency, *record.stages.values()):
        assert f"{latency.p50_ms:.3f}" in out
        assert f"{latency.max_ms:.3f}" in out
    assert "p90 needs 64 runs, p99 662" in " ".join(out.split())


def test_an_equally_fast_build_passes(
    bundle: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _scale(baseline, 3.0)
    assert _edgeact(monkeypatch, str(bundle), *QUICK, "--baseline", str(baseline), "--max-regression", "10%") == 0
    assert "not slower than allowed" in capsys.readouterr().out


def test_a_slower_build_fails_after_a_second_measurement(
    bundle: Path, baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _scale(baseline, 0.05)
    junit = tmp_path / "junit.xml"
    arguments = (str(bundle), *QUICK, "--baseline", str(baseline), "--junit", str(junit), "--min-delta-ms", "0")
    assert _edgeact(monkeypatch, *arguments) == 9
    captured = capsys.readouterr()
    assert "measuring once more to be sure" in captured.err
    assert "SLOWER" in captured.err
    case = ElementTree.parse(junit).find("testsuite/testcase")
    assert case is not None
    assert case.find("failure") is not None


def test_a_baseline_of_another_machine_is_refused(
    bundle: Path, baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = LatencyRecord.model_validate_json(baseline.read_bytes()).machine
    _scale(baseline, 1.0, machine=machine.model_copy(update={"processor": "Another CPU"}))
    junit = tmp_path / "junit.xml"
    monkeypatch.setattr("edgeact.bench.bench_bundle", None)  # nothing is measured
    assert _edgeact(monkeypatch, str(bundle), *QUICK, "--baseline", str(baseline), "--junit", str(junit)) == 11
    captured = capsys.readouterr()
    assert "processor was Another CPU" in captured.err
    assert "p50" not in captured.out
    assert ElementTree.parse(junit).find("testsuite/testcase/error") is not None


def test_json_is_one_document_on_standard_output(
    bundle: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _scale(baseline, 3.0)
    capsys.readouterr()
    assert _edgeact(monkeypatch, str(bundle), *QUICK, "--json", "--baseline", str(baseline)) == 0
    document = json.loads(capsys.readouterr().out)
    assert LatencyRecord.model_validate_json(json.dumps(document["record"])).artifact == "fp32"
    assert document["comparison"]["outcome"] == "pass"
    assert document["comparison"]["inconclusive"] is None


def test_a_pass_that_proves_nothing_is_reported(
    bundle: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _scale(baseline, 3.0)
    assert (
        _edgeact(monkeypatch, str(bundle), "--runs", "5", "--threads", "1", "--json", "--baseline", str(baseline)) == 0
    )
    captured = capsys.readouterr()
    reason = json.loads(captured.out)["comparison"]["inconclusive"]
    assert reason.startswith("inconclusive: 5 runs are too few")
    assert f"warning: {reason}" in captured.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--max-regression", "nan"), 2, "disable the gate"),
        (("--max-regression", "-5%"), 2, "disable the gate"),
        (("--max-regression", "much"), 2, "limit: expected"),
        (("--junit", "x.xml"), 2, "give --baseline FILE"),
        (("--runs", "0"), 2, "expected 1 or more"),
        (("--threads", "0"), 2, "Invalid value for '--threads'"),
        (("--baseline", "absent.json"), 11, "edgeact bench BUNDLE --out FILE"),
        (("--artifact", "fp23"), 2, "did you mean fp32"),
    ],
)
def test_wrong_calls_end_with_their_code(
    bundle: Path,
    arguments: tuple[str, ...],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _edgeact(monkeypatch, str(bundle), *arguments) == code
    assert message in capsys.readouterr().err


def test_nothing_is_left_if_the_record_cannot_be_written(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    assert _edgeact(monkeypatch, str(bundle), *QUICK, "--out", str(tmp_path / "file" / "x.json")) == 10
