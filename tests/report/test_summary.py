from __future__ import annotations

import pytest

from edgeact.report import BundleView
from edgeact.report.summary import measured_where, provenance, summarize_bundle
from tests.report.making import make_machine, make_rows, make_view


def _of(target: str, **machine: object) -> BundleView:
    view = make_view()
    assert view.measurements
    changed = {"target": target, "machine": make_machine().model_copy(update={"board": None, **machine})}
    return view.model_copy(update={"measurements": view.measurements.model_copy(update=changed)})


def test_the_choice_its_speed_and_its_accuracy_are_told() -> None:
    assert summarize_bundle(make_view()) == (
        "openvino-int8 (int8, openvino on CPU) was chosen: fastest within the budget of 1 point.",
        "One clip takes 4.27 ms [4.25, 4.29]: the median of 200 runs, 2 threads.",
        "It is right on 450 of 480 (93.8 %) over stick-actions test, clips.",
    )


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
