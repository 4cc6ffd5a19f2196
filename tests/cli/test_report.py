from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgeact.bundle import replace_measurements
from edgeact.cli.main import app
from edgeact.errors import UsageError
from edgeact.records import Measurements
from edgeact.report import Report
from tests.bench.making import make_record
from tests.report.making import make_accuracy_record, make_machine, make_rows
from tests.runtime.making import make_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = make_bundle(tmp_path / "tiny.edgeact").path
    replace_measurements(
        path,
        Measurements(
            created_utc="2026-01-02T03:04:05Z",
            model="tiny",
            target="intel-cpu",
            machine=make_machine(),
            rows=make_rows(("dark", "red", "green", "blue")),
        ),
    )
    return path


def test_a_bundle_and_records_become_page_markdown_and_json(bundle: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    record.write_text(make_record().model_dump_json())
    counted = tmp_path / "counted.json"
    counted.write_text(make_accuracy_record().model_dump_json(indent=1))
    page, markdown = tmp_path / "out" / "report.html", tmp_path / "report.md"
    arguments = [
        "report",
        str(bundle),
        str(record),
        str(counted),
        "-o",
        str(page),
        "--markdown",
        str(markdown),
        "--json",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = Report.model_validate(json.loads(result.stdout))
    assert [len(report.bundles), len(report.scatters)] == [1, 1]
    assert [len(report.latency_records), len(report.accuracy_records)] == [1, 1]
    for text in (page.read_text(encoding="utf-8"), markdown.read_text(encoding="utf-8")):
        assert "openvino-int8 (int8, openvino on CPU) was chosen" in text
        assert "Latency records" in text
        assert "Accuracy records" in text


def test_an_earlier_page_remains_if_an_input_is_bad(bundle: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("earlier")
    result = CliRunner().invoke(app, ["report", str(bundle), str(tmp_path / "absent.edgeact"), "-o", str(page)])
    assert isinstance(result.exception, UsageError)
    assert page.read_text() == "earlier"
