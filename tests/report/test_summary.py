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


def test_the_choice_its_speed_and_its_accuracy_are_told() -> None:
    assert summarize_bundle(make_view()) == (
        "openvino-int8 (int8, openvino on CPU) was chosen: fastest within the budget of 1 point.",
        "One clip takes 4.27 ms [4.25, 4.29]: the median of 200 runs, 2 threads.",
        "Top-1 on stick-actions test: 93.8 % of 480 clips.",
    )


def test_all_levels_of_one_data_set_are_one_sentence_videos_first() -> None:
    both = (make_accuracy(0.9), make_accuracy(0.96, level="video", per_class=20))
    other = make_accuracy(0.9).model_copy(update={"split": "val"})
    row = make_rows()[3].model_copy(update={"accuracy": (*both, other)})
    clips, videos = (percent(accuracy.top1) for accuracy in both)
    assert summarize_bundle(make_view(rows=(row,)))[2:] == (
        f"Top-1 on stick-actions test: {videos} % of 240 videos, {clips} % of 480 clips.",
        f"Top-1 on stick-actions val: {percent(other.top1)} % of 480 clips.",
    )


def test_where_nothing_was_chosen_the_accuracy_of_every_candidate_is_told() -> None:
    assert summarize_bundle(make_view(rows=make_estimated_rows()))[1:] == (
        "Top-1 of onnx (fp32) on stick-actions test: 93.8 % of 480 clips.",
        "Top-1 of tensorrt-fp16 (fp16) on stick-actions test: 93.8 % of 480 clips.",
        "Top-1 of tensorrt-int8 (int8) on stick-actions test: 93.8 % of 480 clips.",
    )


@pytest.mark.parametrize(
    ("target", "name"), [("orin-nano-8gb", "Jetson Orin Nano 8GB"), ("a-new-board", "a-new-board")]
)
def test_a_picture_of_estimates_says_so_and_for_which_board(target: str, name: str) -> None:
    measured, estimated = build_report([make_view(), make_view(rows=make_estimated_rows(), target=target)]).scatters
    assert scatter_title(measured) == "Accuracy against latency"
    assert "estimate" not in scatter_note(measured)
    assert scatter_title(estimated) == f"Accuracy against latency estimates for {name}, never measured"
    assert f"Every latency is a roofline estimate for {name} and was never measured" in scatter_note(estimated)
    assert "counted on intel-cpu (Intel Xeon" in scatter_note(estimated)


def test_a_choice_by_estimate_is_not_told_as_measured() -> None:
    rows = (make_rows()[-1].model_copy(update={"verdict": "chosen"}),)
    assert "One clip is estimated to take 1.83 ms; that was not measured." in summarize_bundle(make_view(rows=rows))


def test_what_the_device_has_to_decide_is_told() -> None:
    view = make_view()
    later = view.model_copy(update={"manifest": view.manifest.model_copy(update={"decide_on_device": True})})
    assert "not at hand: the device times the candidates (openvino-int8, onnx)" in summarize_bundle(later)[1]


def test_measured_and_estimated_are_kept_apart() -> None:
    sentences = measured_where(make_view())
    measured = next(sentence for sentence in sentences if sentence.startswith("Latency was measured on intel-cpu"))
    assert "onnx-int8" in measured
    assert "tensorrt-fp16" not in measured
    assert any("estimate" in sentence and sentence.endswith("for tensorrt-fp16.") for sentence in sentences)
    assert "Videos left out (2): stick-actions test: no frame could be decoded: 2." in sentences
    assert "Odd videos that are counted all the same: stick-actions test: variable frame rate: 3." in sentences


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
def test_numbers_that_are_not_from_the_target_are_told(view: BundleView, is_foreign: bool) -> None:
    assert any("are not from it" in sentence for sentence in measured_where(view)) == is_foreign


def test_provenance_warns_of_synthetic_calibration() -> None:
    view = make_view()
    assert view.manifest.calibration
    synthetic = view.manifest.calibration.model_copy(update={"synthetic": True})
    changed = view.model_copy(update={"manifest": view.manifest.model_copy(update={"calibration": synthetic})})
    assert "SYNTHETIC" in provenance(changed)["INT8 calibration"]
    assert "SYNTHETIC" not in provenance(view)["INT8 calibration"]
