from __future__ import annotations

import pytest

from edgeact.report import BundleView, build_report
from edgeact.report.formatting import percent
from edgeact.report.summary import measured_where, provenance, scatter_note, scatter_title, summarize_bundle
from tests.report.making import make_accuracy, make_estimated_rows, make_machine, make_rows, make_view


def _of(target: str, **machine: object) -> BundleView:
    view = make_view()
    assert view.measurements
    changed = {"target": target, "machine": make_machine().model_copy(update={"board": None, **machine})}
    return view.model_copy(update={"measurements": view.measurements.model_copy(update=changed)})


def test_summarize_bundle_has_choice_latency_and_accuracy() -> None:
    assert summarize_bundle(make_view()) == (
        "openvino-int8 (int8, openvino on CPU) was chosen: fastest within the budget of 1 point.",
        "One clip takes 4.27 ms [4.25, 4.29]: the median of 200 runs, 2 threads.",
        "Top-1 on stick-actions test: 93.8 % of 480 clips.",
    )


def test_summarize_bundle_has_a_sentence_per_data_set_videos_first() -> None:
    both = (make_accuracy(0.9), make_accuracy(0.96, level="video", per_class=20))
    other = make_accuracy(0.9).model_copy(update={"split": "val"})
    row = make_rows()[3].model_copy(update={"accuracy": (*both, other)})
    clips, videos = (percent(accuracy.top1) for accuracy in both)
    assert summarize_bundle(make_view(rows=(row,)))[2:] == (
        f"Top-1 on stick-actions test: {videos} % of 240 videos, {clips} % of 480 clips.",
        f"Top-1 on stick-actions val: {percent(other.top1)} % of 480 clips.",
    )


def test_summarize_bundle_without_a_choice_has_the_accuracy_of_each_candidate() -> None:
    assert summarize_bundle(make_view(rows=make_estimated_rows()))[1:] == (
        "Top-1 of onnx (fp32) on stick-actions test: 93.8 % of 480 clips.",
        "Top-1 of tensorrt-fp16 (fp16) on stick-actions test: 93.8 % of 480 clips.",
        "Top-1 of tensorrt-int8 (int8) on stick-actions test: 93.8 % of 480 clips.",
    )


@pytest.mark.parametrize(
    ("target", "name"), [("orin-nano-8gb", "Jetson Orin Nano 8GB"), ("a-new-board", "a-new-board")]
)
def test_scatter_title_and_note_label_estimates_and_their_board(target: str, name: str) -> None:
    measured, estimated = build_report([make_view(), make_view(rows=make_estimated_rows(), target=target)]).scatters
    assert scatter_title(measured) == "Accuracy against latency"
    assert "estimate" not in scatter_note(measured)
    assert scatter_title(estimated) == f"Accuracy against latency estimates for {name}, not measured"
    assert f"Every latency is a roofline estimate for {name}, not measured" in scatter_note(estimated)
    assert "measured on intel-cpu (Intel Xeon" in scatter_note(estimated)


def test_summarize_bundle_labels_an_estimated_latency() -> None:
    rows = (make_rows()[-1].model_copy(update={"verdict": "chosen"}),)
    assert "One clip takes an estimated 1.83 ms, not measured." in summarize_bundle(make_view(rows=rows))


def test_summarize_bundle_says_that_the_device_chooses() -> None:
    view = make_view()
    later = view.model_copy(update={"manifest": view.manifest.model_copy(update={"decide_on_device": True})})
    assert "not available: the device times the candidates (openvino-int8, onnx)" in summarize_bundle(later)[1]


def test_measured_if_separates_measurements_and_estimates() -> None:
    sentences = measured_where(make_view())
    measured = next(sentence for sentence in sentences if sentence.startswith("Latency was measured on intel-cpu"))
    assert "onnx-int8" in measured
    assert "tensorrt-fp16" not in measured
    assert any("estimate" in sentence and sentence.endswith("for tensorrt-fp16.") for sentence in sentences)
    assert "Videos skipped (2): stick-actions test: no frame could be decoded: 2." in sentences
    assert "Irregular videos used: stick-actions test: variable frame rate: 3." in sentences


@pytest.mark.parametrize(
    ("view", "is_foreign"),
    [
        (_of("intel-cpu"), False),
        (_of("intel-cpu", architecture="aarch64"), True),
        (_of("orin-nano-8gb"), True),
        (_of("orin-nano-8gb", board="orin-nano-8gb", architecture="aarch64"), False),
        (_of("a-board-of-tomorrow"), True),
    ],
)
def test_measured_if_names_values_of_another_machine(view: BundleView, is_foreign: bool) -> None:
    assert any("from another machine" in sentence for sentence in measured_where(view)) == is_foreign


def test_provenance_labels_synthetic_calibration() -> None:
    view = make_view()
    assert view.manifest.calibration
    synthetic = view.manifest.calibration.model_copy(update={"synthetic": True})
    changed = view.model_copy(update={"manifest": view.manifest.model_copy(update={"calibration": synthetic})})
    assert "SYNTHETIC" in provenance(changed)["INT8 calibration"]
    assert "SYNTHETIC" not in provenance(view)["INT8 calibration"]
