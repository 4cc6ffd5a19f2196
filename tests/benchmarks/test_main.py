from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.benchmarks import __main__ as program
from tests.benchmarks.measure import BENCHMARKS
from tests.benchmarks.records import BenchReport, BenchRow, BenchSettings
from tests.benchmarks.workspace import Workspace


def _slow(workspace: Workspace) -> list[BenchRow]:
    row = BenchRow(name="slow", value=2.0, unit="s", how="a stand-in")
    return [row.judged(1.0, applies=workspace.settings.limits_apply)]


def _broken(_workspace: Workspace) -> list[BenchRow]:
    raise RuntimeError("the device is gone")


def _run(arguments: list[str]) -> int:
    app = typer.Typer()
    app.command()(program.command)
    return CliRunner().invoke(app, arguments).exit_code


@pytest.mark.parametrize(("arguments", "code"), [([], 1), (["--quick"], 0)], ids=["judged", "quick"])
def test_command_exits_with_1_after_a_missed_limit_and_writes_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.setitem(BENCHMARKS, "import", _slow)
    assert _run([*arguments, "--only", "import", "--out", str(tmp_path / "new")]) == code
    report = BenchReport.model_validate_json((tmp_path / "new" / "bench.json").read_bytes())
    assert [row.name for row in report.rows] == ["slow"]
    assert report.passed is (code == 0)
    assert "nncf" in report.machine.versions
    assert ("MISSED" in (tmp_path / "new" / "bench.md").read_text()) is (code == 1)


def test_run_benchmarks_continues_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, "export", _broken)
    monkeypatch.setitem(BENCHMARKS, "latency", _slow)
    report = program.run_benchmarks(BenchSettings.quick(), ["export", "latency"])
    assert [row.name for row in report.rows] == ["slow"]
    assert [failure.reason for failure in report.failures] == ["RuntimeError: the device is gone"]
    assert not report.passed
    assert [part.benchmark for part in report.durations] == ["export", "latency"]


def test_run_benchmarks_names_what_the_machine_cannot_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(workspace: Workspace) -> list[BenchRow]:
        workspace.leave_out("rows of amx-int8", "needs a processor with amx-int8")
        return []

    monkeypatch.setitem(BENCHMARKS, "isa", absent)
    report = program.run_benchmarks(BenchSettings.quick(), ["isa"])
    assert [(gap.subject, gap.reason) for gap in report.gaps] == [
        ("rows of amx-int8", "needs a processor with amx-int8")
    ]
    assert report.passed  # no fault of the run


def test_command_runs_demo_on_request_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[str] = []

    run_benchmarks = program.run_benchmarks

    def record(settings: BenchSettings, names: list[str]) -> BenchReport:
        requested.extend(names)
        return run_benchmarks(settings, [])

    monkeypatch.setattr(program, "run_benchmarks", record)
    out = ["--out", str(tmp_path)]
    _run(out)
    assert requested == [name for name in BENCHMARKS if name != "demo"]
    requested.clear()
    _run([*out, "--demo", "--only", "import"])
    assert requested == ["import", "demo"]


def test_command_refuses_an_unknown_benchmark(tmp_path: Path) -> None:
    assert _run(["--only", "imports", "--out", str(tmp_path)]) == 2
    assert not (tmp_path / "bench.json").exists()
