from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console

from edgeact.records import Interval, Machine
from tests.benchmarks.records import BenchDuration, BenchFailure, BenchGap, BenchReport, BenchRow, BenchSettings
from tests.benchmarks.tables import console_table, markdown
from tests.messages import names

_TRAINED = BenchSettings.full().model_copy(update={"trained": True})


def _row(value: float = 0.9, name: str = "ours / peer") -> BenchRow:
    return BenchRow(name=name, value=value, unit="", how="in turns")


def _report(*rows: BenchRow, **changes: object) -> BenchReport:
    machine = Machine(
        processor="Test CPU",
        architecture="x86_64",
        cores=2,
        memory_bytes=8 << 30,
        operating_system="Linux",
        versions={"openvino": "2026.4.1", "nncf": "3.4.0"},
    )
    report = BenchReport(
        created_utc="2026-01-01T00:00:00+00:00",
        machine=machine,
        load_average=0.1,
        settings=_TRAINED,
        rows=rows,
    )
    return report.model_copy(update=changes)


def _console(report: BenchReport) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(console_table(report))
    return text.getvalue()


@given(value=st.floats(0, 1e6), limit=st.floats(0, 1e6))
def test_bench_row_passes_up_to_its_limit(value: float, limit: float) -> None:
    row = _row(value).judged(limit, applies=True)
    assert row.passed is (value <= limit)
    assert BenchRow.model_validate_json(row.model_dump_json()) == row


def test_bench_row_has_no_verdict_if_the_limit_does_not_apply() -> None:
    row = _row(5.0).judged(1.0, applies=False)
    assert (row.limit, row.passed) == (1.0, None)
    assert _report(row).passed


@pytest.mark.parametrize(
    ("limit", "passed"), [(1.0, False), (0.5, True), (None, True)], ids=["denied", "claimed", "without a limit"]
)
def test_bench_row_refuses_a_verdict_that_contradicts_the_value(limit: float | None, passed: bool) -> None:
    with pytest.raises(ValidationError, check=names("is not passed=")):
        BenchRow(name="ratio", value=0.9, unit="", limit=limit, passed=passed, how="")


def test_bench_report_survives_json_and_refuses_unknown_fields() -> None:
    row = _row().judged(1.05, applies=True).model_copy(update={"interval": Interval(low=0.8, high=0.95)})
    report = _report(row, _row(), failures=(BenchFailure(benchmark="demo", reason="no Makefile"),))
    document = json.loads(report.model_dump_json())
    assert document["schema_version"] == "1.0"
    assert BenchReport.model_validate(document) == report
    with pytest.raises(ValidationError, check=names("Extra inputs")):
        BenchReport.model_validate({**document, "surprise": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bench_row_refuses_values_that_are_not_finite(value: float) -> None:
    with pytest.raises(ValidationError, check=names("finite")):
        _row(value)


def test_bench_report_fails_with_a_missed_limit_or_a_failure() -> None:
    good, bad = _row(1.0).judged(1.05, applies=True), _row(1.1).judged(1.05, applies=True)
    assert _report(good, _row(99.0)).passed
    assert not _report(good, bad).passed
    assert not _report(good, failures=(BenchFailure(benchmark="memory", reason="gone"),)).passed


def test_markdown_names_gaps_and_wall_times() -> None:
    gap = BenchGap(subject="rows of amx-int8", reason="needs a processor with amx-int8")
    durations = (BenchDuration(benchmark="isa", seconds=61.2), BenchDuration(benchmark="rate", seconds=9.0))
    report = _report(_row(), gaps=(gap,), durations=durations)
    assert report.passed
    assert f"not measured here: {gap.subject}: {gap.reason}" in markdown(report)
    assert "Wall time 70 s: isa 61 s, rate 9 s." in markdown(report)
    assert "Wall time" not in markdown(_report(_row()))  # a record of before


def test_tables_have_value_bounds_limit_and_verdict() -> None:
    row = _row(1.1).model_copy(update={"interval": Interval(low=1.05, high=1.15)}).judged(1.05, applies=True)
    for text in (_console(_report(row, _row(12.345))), markdown(_report(row, _row(12.345)))):
        for part in ("ours / peer", "1.100", "(1.050 to 1.150)", "<= 1.050", "MISSED", "12.3", "in turns"):
            assert part in text


def test_markdown_escapes_cells() -> None:
    lines = markdown(_report(_row(name="a | b"))).splitlines()
    rows = [line.replace("\\|", "") for line in lines if line.startswith("|")]
    assert len(rows) == 3
    assert {line.count("|") for line in rows} == {6}
    assert "nncf 3.4.0, openvino 2026.4.1" in "\n".join(lines)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"settings": BenchSettings.quick()}, "QUICK RUN at width 8: the limits do not apply"),
        ({"settings": BenchSettings.quick()}, "the weights are random: no accuracy"),
        ({"load_average": 3.2}, "the machine was busy before the run (load 3.2)"),
        ({"failures": (BenchFailure(benchmark="demo", reason="no Makefile"),)}, "demo was not measured: no Makefile"),
    ],
)
def test_tables_have_the_notes(changes: dict[str, object], expected: str) -> None:
    report = _report(_row(), **changes)
    assert expected in markdown(report)
    assert expected in " ".join(_console(report).split())
    assert not _report(_row()).notes
