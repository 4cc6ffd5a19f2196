from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeact.bundle import open_bundle, replace_measurements
from edgeact.errors import BundleTruncatedError, UsageError
from edgeact.records import Measurements
from edgeact.report import Report, build_report, read_inputs
from tests.bench.making import make_record
from tests.report.making import (
    make_accuracy,
    make_accuracy_record,
    make_estimated_rows,
    make_machine,
    make_rows,
    make_view,
)
from tests.runtime.making import make_bundle


def test_a_scatter_holds_exactly_the_rows_with_both_numbers_measured() -> None:
    rows = make_rows()
    (scatter,) = build_report([make_view(rows=rows)]).scatters
    measured = [row for row in rows if row.latency and row.accuracy]
    assert [point.label for point in scatter.points] == [row.artifact for row in measured]
    assert "tensorrt-fp16" not in [point.label for point in scatter.points]  # its latency is an estimate
    for point, row in zip(scatter.points, measured, strict=True):
        assert row.latency
        assert (point.p50_ms, point.p50_interval) == (row.latency.p50_ms, row.latency.p50_interval)
        assert (point.top1, point.top1_interval) == (row.accuracy[0].top1, row.accuracy[0].top1_interval)


def test_estimates_have_a_scatter_of_their_own_after_the_measured_ones() -> None:
    rows = make_estimated_rows()
    board = make_view("board.edgeact", rows=(*rows, *make_rows()[3:4]), target="orin-nano-8gb")
    measured, estimated = build_report([board]).scatters
    assert (measured.estimated_for, estimated.estimated_for) == (None, "orin-nano-8gb")
    assert [point.label for point in measured.points] == ["openvino-int8"]
    assert [point.label for point in estimated.points] == [row.artifact for row in rows[1:]]
    for point, row in zip(estimated.points, rows[1:], strict=True):
        assert point.is_estimate
        assert (point.p50_ms, point.p50_interval) == (None, None)
        assert point.latency_ms == point.latency_estimate_ms == row.latency_estimate_ms
        assert point.top1_interval == row.accuracy[0].top1_interval


def test_a_measured_latency_goes_before_an_estimate_of_it() -> None:
    row = make_rows()[3].model_copy(update={"latency_estimate_ms": 1.0})
    (scatter,) = build_report([make_view(rows=(row,))]).scatters
    assert row.latency
    assert scatter.estimated_for is None
    assert [(point.latency_ms, point.latency_estimate_ms) for point in scatter.points] == [(row.latency.p50_ms, None)]


def test_estimates_for_two_boards_are_two_scatters() -> None:
    boards = ("orin-nano-8gb", "rtx-4090")
    views = [make_view(f"{board}.edgeact", rows=make_estimated_rows(), target=board) for board in boards]
    assert [scatter.estimated_for for scatter in build_report(views).scatters] == [*boards]


def test_bundles_of_one_machine_share_a_scatter_and_keep_their_names_apart() -> None:
    (scatter,) = build_report([make_view("a.edgeact"), make_view("b.edgeact")]).scatters
    assert len(scatter.points) == 10
    assert len({point.label for point in scatter.points}) == 10
    assert "onnx · onnxruntime · a" in [point.label for point in scatter.points]


def test_what_cannot_be_compared_is_not_put_into_one_scatter() -> None:
    here, there = make_view("a.edgeact"), make_view("b.edgeact")
    assert there.measurements
    elsewhere = there.measurements.model_copy(update={"machine": make_machine().model_copy(update={"cores": 64})})
    assert len(build_report([here, there.model_copy(update={"measurements": elsewhere})]).scatters) == 2
    other_data = tuple(
        row.model_copy(update={"accuracy": tuple(a.model_copy(update={"data_digest": "e" * 64}) for a in row.accuracy)})
        for row in make_rows()
    )
    assert len(build_report([here, make_view("b.edgeact", rows=other_data)]).scatters) == 2


def test_the_scatter_takes_accuracy_over_videos_where_there_is_one() -> None:
    both = (make_accuracy(0.9), make_accuracy(0.96, level="video"))
    rows = tuple(row.model_copy(update={"accuracy": both}) for row in make_rows()[:2])
    view = make_view(rows=rows)
    (scatter,) = build_report([view]).scatters
    assert scatter.data.endswith("videos")
    assert {point.top1 for point in scatter.points} == {both[1].top1}
    assert view.accuracy_keys == ("stick-actions test, clips", "stick-actions test, videos")


def test_single_samples_are_left_out_and_the_rest_survives_json() -> None:
    estimated = make_view("b.edgeact", rows=make_estimated_rows(), target="orin-nano-8gb")
    report = build_report([make_view(), estimated], [make_record(), make_accuracy_record()])
    assert Report.model_validate_json(report.model_dump_json()) == report
    text = json.dumps(json.loads(report.model_dump_json()))
    assert '"samples_ms": []' in text
    assert '"samples_ms": [0' not in text
    assert len(text) < 100_000


def test_bundles_and_records_are_told_apart_by_content(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "tiny.edgeact").path
    measured = Measurements(
        created_utc="2026-01-02T03:04:05Z", model="tiny", target="intel-cpu", machine=make_machine(), rows=make_rows()
    )
    replace_measurements(path, measured)
    record = tmp_path / "record.json"
    record.write_text(make_record().model_dump_json())
    counted = tmp_path / "counted.json"
    counted.write_text(make_accuracy_record().model_dump_json(indent=1) + "\n")
    report = read_inputs([record, counted, path])
    assert [bundle.name for bundle in report.bundles] == ["tiny.edgeact"]
    assert report.bundles[0].digest == open_bundle(path).digest
    assert report.bundles[0].chosen
    assert [each.artifact for each in report.latency_records] == ["openvino-int8"]
    assert report.accuracy_records == (make_accuracy_record(),)


def test_a_report_of_records_alone_is_named_after_them() -> None:
    report = build_report([], [make_accuracy_record(), make_record()])
    assert report.title == "msf-r3d-fsam / openvino-int8, msf-r3d-fsam / onnx-int8"


def test_other_files_are_refused(tmp_path: Path) -> None:
    for text in ('{"kind": "measurements"}', '{"kind": "accuracy"}', "{}", "{"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UsageError, match="neither a bundle nor a record of edgeact bench --out or"):
            read_inputs([tmp_path / "x.json"])
    with pytest.raises(UsageError, match="cannot read"):
        read_inputs([tmp_path / "absent"])
    (tmp_path / "x.edgeact").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(BundleTruncatedError):
        read_inputs([tmp_path / "x.edgeact"])
