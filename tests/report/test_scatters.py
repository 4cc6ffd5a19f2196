from __future__ import annotations

from edgeact.report import build_report
from tests.report.making import (
    make_accuracy,
    make_estimated_rows,
    make_machine,
    make_rows,
    make_view,
)


def test_bundle_scatters_hold_candidates_with_accuracy_and_latency() -> None:
    rows = make_rows()
    (scatter,) = build_report([make_view(rows=rows)]).scatters
    measured = [row for row in rows if row.latency and row.accuracy]
    assert [point.label for point in scatter.points] == [row.artifact for row in measured]
    assert "tensorrt-fp16" not in [point.label for point in scatter.points]  # its latency is an estimate
    for point, row in zip(scatter.points, measured, strict=True):
        assert row.latency
        assert (point.p50_ms, point.p50_interval) == (row.latency.p50_ms, row.latency.p50_interval)
        assert (point.top1, point.top1_interval) == (row.accuracy[0].top1, row.accuracy[0].top1_interval)


def test_bundle_scatters_of_estimates_follow_the_measured_scatters() -> None:
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


def test_bundle_scatters_prefer_the_measured_latency() -> None:
    row = make_rows()[3].model_copy(update={"latency_estimate_ms": 1.0})
    (scatter,) = build_report([make_view(rows=(row,))]).scatters
    assert row.latency
    assert scatter.estimated_for is None
    assert [(point.latency_ms, point.latency_estimate_ms) for point in scatter.points] == [(row.latency.p50_ms, None)]


def test_bundle_scatters_of_estimates_are_one_per_board() -> None:
    boards = ("orin-nano-8gb", "rtx-4090")
    views = [make_view(f"{board}.edgeact", rows=make_estimated_rows(), target=board) for board in boards]
    assert [scatter.estimated_for for scatter in build_report(views).scatters] == [*boards]


def test_bundle_scatters_of_a_machine_have_unique_labels() -> None:
    (scatter,) = build_report([make_view("a.edgeact"), make_view("b.edgeact")]).scatters
    assert len(scatter.points) == 10
    assert len({point.label for point in scatter.points}) == 10
    assert "onnx · onnxruntime · a" in [point.label for point in scatter.points]


def test_bundle_scatters_separate_other_machines_and_data() -> None:
    here, there = make_view("a.edgeact"), make_view("b.edgeact")
    assert there.measurements
    elsewhere = there.measurements.model_copy(update={"machine": make_machine().model_copy(update={"cores": 64})})
    assert len(build_report([here, there.model_copy(update={"measurements": elsewhere})]).scatters) == 2
    other_data = tuple(
        row.model_copy(update={"accuracy": tuple(a.model_copy(update={"data_digest": "e" * 64}) for a in row.accuracy)})
        for row in make_rows()
    )
    assert len(build_report([here, make_view("b.edgeact", rows=other_data)]).scatters) == 2


def test_bundle_scatters_prefer_the_accuracy_by_video() -> None:
    both = (make_accuracy(0.9), make_accuracy(0.96, level="video"))
    rows = tuple(row.model_copy(update={"accuracy": both}) for row in make_rows()[:2])
    view = make_view(rows=rows)
    (scatter,) = build_report([view]).scatters
    assert scatter.data.endswith("videos")
    assert {point.top1 for point in scatter.points} == {both[1].top1}
    assert view.accuracy_keys == ("stick-actions test, clips", "stick-actions test, videos")
