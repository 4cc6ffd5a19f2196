"""The candidates of a CPU, opened by the backends they are for."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir
import pytest

from edgeact.devices import load_profile
from edgeact.export.build.data import ExportData
from edgeact.export.build.measure import Meter
from edgeact.export.build.recipe import PRECISIONS, PrecisionChoice
from edgeact.export.candidates.candidate import BuildInputs, Clips
from edgeact.export.models.loading import LoadedModel
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.reasons import NotLowered, PassResult
from edgeact.runtime import get_backend
from tests.export.emitting import emitted

WHY_NO_ENGINE = get_backend("native").why_unavailable()
NATIVE = [] if WHY_NO_ENGINE else ["native-int8"]
NAMES: dict[PrecisionChoice, list[str]] = {
    "auto": ["openvino-fp32", "onnx-fp32", "openvino-fp16", "openvino-int8", "onnx-int8", *NATIVE],
    "fp32": ["openvino-fp32", "onnx-fp32"],
    "fp16": ["openvino-fp16"],
    "int8": ["openvino-int8", "onnx-int8", *NATIVE],
}


def _inputs(
    master: ir.Model, data: ExportData, model: LoadedModel, precision: PrecisionChoice, clips: Clips
) -> BuildInputs:
    return BuildInputs(
        master=master,
        clip=model.clip,
        profile=load_profile("cpu"),
        samples=data.calibration.inputs,
        calibrator=Calibrator(master, clips),
        precisions=PRECISIONS[precision],
    )


@pytest.mark.parametrize("precision", NAMES)
def test_every_candidate_agrees_with_pytorch(
    precision: PrecisionChoice, colours: LoadedModel, colour_data: ExportData, colour_master: ir.Model
) -> None:
    inputs = _inputs(colour_master, colour_data, colours, precision, colour_data.calibration.inputs)
    candidates, decisions = emitted(inputs)
    assert [candidate.name for candidate in candidates] == NAMES[precision]
    meter = Meter(colours, colour_data, 1)
    checked, _ = meter.score(meter.compare(candidates), ())
    assert [candidate.name for candidate in checked if candidate.run_error or not candidate.agrees] == []
    assert all(candidate.accuracy[1].top1 == 1.0 for candidate in checked)
    applied = {decision.name for decision in decisions if isinstance(decision, PassResult) and decision.applied}
    assert "convert_stem_to_space_to_depth" in applied
    refused = [decision for decision in decisions if isinstance(decision, NotLowered)]
    expected = [NotLowered(artifact="native-int8", unavailable=WHY_NO_ENGINE)] if WHY_NO_ENGINE else []
    assert refused == (expected if "onnx-int8" in NAMES[precision] else [])


def test_without_a_calibrator_there_is_no_int8(
    colours: LoadedModel, colour_data: ExportData, colour_master: ir.Model
) -> None:
    inputs = replace(_inputs(colour_master, colour_data, colours, "auto", ()), calibrator=None)
    assert {candidate.precision for candidate in emitted(inputs)[0]} == {"fp32", "fp16"}
