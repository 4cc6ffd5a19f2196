"""The toggle graph equals the quantizer's graph for every set of enabled layers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.export.models.cost import measure_cost
from tests.export.graph.exported import exported, run_onnx
from tests.export.quantize.making import as_written, toggled_network

NAMES = ["msf-r3d-fsam", "r3d-18", "cnn3d-gate"]


@pytest.mark.parametrize("name", [*NAMES, "se-sa-resnet18"])
def test_no_layer_is_the_float_graph_and_all_layers_are_plain_int8(name: str) -> None:
    case = toggled_network(name)
    clip = case.clips[0]
    np.testing.assert_allclose(case.graph.run(clip, ()), run_onnx(case.model, clip), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(case.graph.run(clip, case.graph.names), as_written(case.quantized(), clip))


@pytest.mark.slow
@settings(max_examples=12)
@given(st.data())
def test_any_set_of_layers_equals_the_output_of_the_quantizer(data: st.DataObject) -> None:
    case = toggled_network(data.draw(st.sampled_from(NAMES)))
    enabled = data.draw(st.sets(st.sampled_from(case.graph.names)))
    in_float = tuple(name for name in case.graph.names if name not in enabled)
    expected = as_written(case.quantized(in_float), case.clips[0])
    np.testing.assert_allclose(case.graph.run(case.clips[0], enabled), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_resuming_at_the_cut_before_a_layer_equals_the_whole_run(name: str) -> None:
    case = toggled_network(name)
    states = case.graph.states(case.clips[0], ())
    firsts = [case.graph.first_segment(layer) for layer in case.graph.layers]
    assert len(set(firsts)) > 3
    for layer, first in zip(case.graph.layers, firsts, strict=True):
        resumed = case.graph.resume(first, states[first], {layer.name})
        np.testing.assert_array_equal(resumed, case.graph.run(case.clips[0], {layer.name}))


def test_layers_are_named_by_their_weights_and_count_the_models_arithmetic() -> None:
    case, source = toggled_network("r3d-18"), exported("r3d-18")
    weights = dict(source.module.named_parameters())
    assert {layer.weight for layer in case.graph.layers} <= weights.keys()
    total = measure_cost(source.module, source.clip.input_shape).macs
    assert sum(layer.macs for layer in case.graph.layers) == pytest.approx(total, rel=0.01)


def test_excluded_layers_are_not_switched() -> None:
    case = toggled_network("msf-r3d-fsam")
    assert case.excluded
    assert not case.excluded.keys() & set(case.graph.names)
