"""Damage by layer: what it is a measure of, and that it finds the layer that was hurt."""

from __future__ import annotations

import numpy as np
import pytest

from edgeact.errors import CalibrationError
from edgeact.export.quantize.sensitivity import compare, measure_sensitivity
from edgeact.export.quantize.toggle_graph import ToggleGraph
from tests.export.graph.exported import run_onnx
from tests.export.quantize.making import as_written, hurt, switched, with_int8
from tests.messages import names


def test_the_damage_of_a_layer_is_that_of_the_graph_with_it_alone_in_int8() -> None:
    case = switched("cnn3d-gate")
    found = measure_sensitivity(case.graph, case.clips, "an-int8")
    assert (found.artifact, found.clips) == ("an-int8", len(case.clips))
    assert [damage.layer for damage in found.layers] == list(case.graph.names)
    floats = [run_onnx(case.model, clip) for clip in case.clips]
    for damage in found.layers[:3]:
        others = tuple(name for name in case.graph.names if name != damage.layer)
        alone = case.quantized(others)
        parity = compare(floats, [as_written(alone, clip) for clip in case.clips])
        assert damage.snr_db == pytest.approx(parity.snr_db, abs=0.05)
        assert damage.top1_agreement == parity.top1_agreement
    whole = compare(floats, [as_written(case.quantized(), clip) for clip in case.clips])
    assert found.snr_db == pytest.approx(whole.snr_db, abs=0.05)


def test_a_sensitive_layer_stands_out() -> None:
    case = switched("r3d-18")
    weight = case.graph.layers[4].weight
    found = measure_sensitivity(with_int8(hurt(case.model, weight, 300.0), case.clips).graph, case.clips, "an-int8")
    damages = sorted(found.layers, key=lambda damage: damage.snr_db or np.inf)
    assert weight in {damage.weight for damage in damages[:2]}  # the layer before it makes what it reads
    before = {d.layer: d.snr_db for d in measure_sensitivity(case.graph, case.clips, "an-int8").layers}
    assert (damages[0].snr_db or 0) < (before[damages[0].layer] or 0) - 15


def test_progress_counts_clips() -> None:
    told: list[tuple[int, int]] = []
    case = switched("cnn3d-gate")
    measure_sensitivity(case.graph, case.clips[:2], "an-int8", lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_nothing_to_measure_is_reported() -> None:
    case = switched("cnn3d-gate")
    with pytest.raises(CalibrationError, check=names("no clip")):
        measure_sensitivity(case.graph, [], "an-int8")
    with pytest.raises(CalibrationError, check=names("no layer in INT8")):
        measure_sensitivity(ToggleGraph((), {}, {}, ()), case.clips, "an-int8")
