from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeact.bundle import open_bundle, replace_measurements
from edgeact.errors import BundleTruncatedError, UsageError
from edgeact.records import Measurements
from edgeact.report import Report, build_report, read_inputs
from tests.bench.making import make_record
from tests.messages import names
from tests.report.making import (
    make_accuracy_record,
    make_estimated_rows,
    make_machine,
    make_rows,
    make_view,
)
from tests.runtime.making import make_bundle


def test_build_report_omits_samples_and_survives_json() -> None:
    estimated = make_view("b.edgeact", rows=make_estimated_rows(), target="orin-nano-8gb")
    report = build_report([make_view(), estimated], [make_record(), make_accuracy_record()])
    assert Report.model_validate_json(report.model_dump_json()) == report
    text = json.dumps(json.loads(report.model_dump_json()))
    assert '"samples_ms": []' in text
    assert '"samples_ms": [0' not in text
    assert len(text) < 100_000


def test_read_inputs_distinguishes_bundles_and_records_by_content(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "tiny.edgeact").path
    measured = Measurements(
        created_utc="2026-01-02T03:04:05Z", model="tiny", target="intel-cpu", machine=make_machine(), rows=make_rows()
    )
    replace_measurements(path, measured)
    record = tmp_path / "record.json"
    record.write_text(make_record().model_dump_json())
    evaluated = tmp_path / "evaluated.json"
    evaluated.write_text(make_accuracy_record().model_dump_json(indent=1) + "\n")
    report = read_inputs([record, evaluated, path])
    assert [bundle.name for bundle in report.bundles] == ["tiny.edgeact"]
    assert report.bundles[0].digest == open_bundle(path).digest
    assert report.bundles[0].chosen
    assert [each.artifact for each in report.latency_records] == ["openvino-int8"]
    assert report.accuracy_records == (make_accuracy_record(),)


def test_build_report_of_records_is_titled_by_their_artifacts() -> None:
    report = build_report([], [make_accuracy_record(), make_record()])
    assert report.title == "msf-r3d-fsam / openvino-int8, msf-r3d-fsam / onnx-int8"


def test_read_inputs_refuses_other_files(tmp_path: Path) -> None:
    for text in ('{"kind": "measurements"}', '{"kind": "accuracy"}', "{}", "{"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UsageError, check=names("neither a bundle nor a record")):
            read_inputs([tmp_path / "x.json"])
    with pytest.raises(UsageError, check=names("cannot read")):
        read_inputs([tmp_path / "absent"])
    (tmp_path / "x.edgeact").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(BundleTruncatedError):
        read_inputs([tmp_path / "x.edgeact"])
