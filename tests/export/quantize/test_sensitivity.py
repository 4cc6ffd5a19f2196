"""Sensitivity equals the error of a graph with a single layer in INT8, and shows a damaged layer."""

from __future__ import annotations

import numpy as np
import pytest

from edgeact.errors import CalibrationError
from edgeact.export.quantize.sensitivity import compare, measure_sensitivity
from edgeact.export.quantize.toggle_graph import ToggleGraph
from tests.export.graph.exported import run_onnx
from tests.export.quantize.making import as_written, damage, toggled_network, with_int8
from tests.messages import names


def test_the_sensitivity_of_a_layer_is_the_error_with_only_that_layer_in_int8() -> None:
    case = toggled_network("cnn3d-gate")
    sensitivity = measure_sensitivity(case.graph, case.clips, "an-int8")
    assert (sensitivity.artifact, sensitivity.clips) == ("an-int8", len(case.clips))
    assert [layer.layer for layer in sensitivity.layers] == list(case.graph.names)
    floats = [run_onnx(case.model, clip) for clip in case.clips]
    for layer in sensitivity.layers[:3]:
        others = tuple(name for name in case.graph.names if name != layer.layer)
        alone = case.quantized(others)
        parity = compare(floats, [as_written(alone, clip) for clip in case.clips])
        assert layer.snr_db == pytest.approx(parity.snr_db, abs=0.05)
        assert layer.top1_agreement == parity.top1_agreement
    whole = compare(floats, [as_written(case.quantized(), clip) for clip in case.clips])
    assert sensitivity.snr_db == pytest.approx(whole.snr_db, abs=0.05)


def test_a_sensitive_layer_stands_out() -> None:
    case = toggled_network("r3d-18")
    weight = case.graph.layers[4].weight
    sensitivity = measure_sensitivity(
        with_int8(damage(case.model, weight, 300.0), case.clips).graph, case.clips, "an-int8"
    )
    layers = sorted(sensitivity.layers, key=lambda layer: layer.snr_db or np.inf)
    assert weight in {layer.weight for layer in layers[:2]}  # the layer before computes its input
    before = {d.layer: d.snr_db for d in measure_sensitivity(case.graph, case.clips, "an-int8").layers}
    assert (layers[0].snr_db or 0) < (before[layers[0].layer] or 0) - 15


def test_progress_counts_clips() -> None:
    calls: list[tuple[int, int]] = []
    case = toggled_network("cnn3d-gate")
    measure_sensitivity(case.graph, case.clips[:2], "an-int8", lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]


def test_nothing_to_measure_is_reported() -> None:
    case = toggled_network("cnn3d-gate")
    with pytest.raises(CalibrationError, check=names("no clip")):
        measure_sensitivity(case.graph, [], "an-int8")
    with pytest.raises(CalibrationError, check=names("no layer in INT8")):
        measure_sensitivity(ToggleGraph((), {}, {}, ()), case.clips, "an-int8")
