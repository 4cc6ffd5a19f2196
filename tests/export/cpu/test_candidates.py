"""The variants of a CPU, opened by the backends they are for."""

from __future__ import annotations

import onnx
import pytest

from edgeact.devices import load_profile
from edgeact.export.build.data import ExportData
from edgeact.export.build.export import PRECISIONS
from edgeact.export.build.measure import Meter
from edgeact.export.build.targets import VARIANTS
from edgeact.export.candidates.candidate import Clips, Sources
from edgeact.export.models.loading import LoadedModel
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.runtime import get_backend

WHY_NO_ENGINE = get_backend("native").why_unavailable()
NATIVE = [] if WHY_NO_ENGINE else ["native-int8"]
NAMES = {
    "auto": ["openvino-fp32", "onnx-fp32", "openvino-fp16", "openvino-int8", "onnx-int8", *NATIVE],
    "fp32": ["openvino-fp32", "onnx-fp32"],
    "fp16": ["openvino-fp16"],
    "int8": ["openvino-int8", "onnx-int8", *NATIVE],
}


def _sources(master: onnx.ModelProto, data: ExportData, model: LoadedModel, precision: str, clips: Clips) -> Sources:
    return Sources(
        master=master,
        clip=model.clip,
        profile=load_profile("cpu"),
        samples=data.calibration.inputs,
        calibration=Calibrator(master, clips),
        precisions=PRECISIONS[precision],
        on_step=lambda _title: None,
    )


@pytest.mark.parametrize("precision", NAMES)
def test_every_variant_agrees_with_pytorch(
    precision: str, colours: LoadedModel, colour_data: ExportData, colour_master: onnx.ModelProto
) -> None:
    sources = _sources(colour_master, colour_data, colours, precision, colour_data.calibration.inputs)
    variants = VARIANTS["cpu"](sources)
    assert [variant.artifact.name for variant in variants] == NAMES[precision]
    measured = Meter(colours, colour_data, 1, lambda _title, _done, _total: None).measure(variants, with_latency=False)
    assert not measured.failures
    assert all(measured.agrees(variant) for variant in variants)
    assert all(pair[1].top1 == 1.0 for pair in measured.accuracies.values())
    assert any("space_to_depth' applied" in decision for decision in sources.decisions)
    told = [decision for decision in sources.decisions if decision.startswith("no native-int8: ")]
    assert told == ([f"no native-int8: {WHY_NO_ENGINE}"] if WHY_NO_ENGINE and "int8" in NAMES[precision][-1] else [])


def test_without_clips_there_is_no_int8(
    colours: LoadedModel, colour_data: ExportData, colour_master: onnx.ModelProto
) -> None:
    sources = _sources(colour_master, colour_data, colours, "auto", ())
    sources = Sources(**{**vars(sources), "calibration": None})
    assert {variant.artifact.precision for variant in VARIANTS["cpu"](sources)} == {"fp32", "fp16"}
