"""Bias correction restores the mean of every channel and changes nothing else."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgeact.export.graph.proto import to_bytes
from edgeact.export.quantize.bias_correction import _shrunk_mean, corrected_biases, with_biases
from edgeact.export.quantize.toggle_graph import ToggleGraph
from tests.export.graph.exported import run_onnx
from tests.export.quantize.making import ToggledNetwork, as_written, toggled_network

NAMES = ["msf-r3d-fsam", "r3d-18", "cnn3d-gate"]


def _mean_errors(case: ToggledNetwork, biases: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Return the mean error of the channels of every layer, `(channels,)` each, in graph order."""
    graph, errors, fed = case.graph, [], case.graph.fed(biases)
    float_states, int8_states = list(case.clips), list(case.clips)
    for index in range(len(graph.layers_by_segment())):
        floats = [graph.advance(index, state, ()) for state in float_states]
        ints = [graph.advance(index, state, graph.names, fed) for state in int8_states]
        for place in range(1, len(floats[0])):
            shifts = [actual[place] - expected[place] for actual, expected in zip(ints, floats, strict=True)]
            errors.append(np.mean(shifts, axis=0))
        float_states, int8_states = [results[0] for results in floats], [results[0] for results in ints]
    return errors


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r3d-18", "cnn3d-gate"])
def test_no_channels_mean_error_gets_larger_by_its_correction(name: str) -> None:
    case = toggled_network(name)
    corrected = corrected_biases(case.graph, case.clips, case.graph.names)
    done: dict[str, NDArray[np.float32]] = {}
    for place, layer in enumerate(layer for layer in case.graph.layers if layer.bias):
        before = np.abs(_mean_errors(case, done)[place])
        done[layer.name] = corrected[layer.name]
        after = np.abs(_mean_errors(case, done)[place])
        assert (after <= before + 1e-6).all()
        assert after.sum() < before.sum()


def test_a_shift_that_all_clips_share_is_corrected_and_scatter_is_not() -> None:
    rng = np.random.default_rng(0)
    shared, scatter = np.full((16, 3), 0.5), rng.normal(size=(16, 400))
    scatter -= scatter.mean(axis=0)
    np.testing.assert_array_equal(_shrunk_mean(shared), [0.5] * 3)
    np.testing.assert_allclose(_shrunk_mean(scatter), 0.0, atol=1e-12)
    np.testing.assert_array_equal(_shrunk_mean(np.zeros((4, 2))), [0.0, 0.0])
    np.testing.assert_array_equal(_shrunk_mean(shared[:1]), [0.5] * 3)
    mixed = scatter + 0.3
    kept = _shrunk_mean(mixed) / mixed.mean(axis=0)
    assert ((kept >= 0) & (kept < 1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_mean_error_of_the_output_shrinks(name: str) -> None:
    case = toggled_network(name)
    corrected = with_biases(case.quantized(), corrected_biases(case.graph, case.clips, case.graph.names))
    expected = np.concatenate([run_onnx(case.model, clip) for clip in case.clips])
    errors = [
        np.abs((np.concatenate([as_written(model, clip) for clip in case.clips]) - expected).mean(axis=0)).max()
        for model in (case.quantized(), corrected)
    ]
    scale = np.abs(expected).max() / 127
    assert errors[1] <= max(errors[0], scale / 2)  # the output is quantized behind the last bias


def test_if_nothing_is_quantized_nothing_is_corrected() -> None:
    case = toggled_network("cnn3d-gate")
    assert corrected_biases(case.graph, case.clips, ()) == {}


def test_a_layer_without_error_keeps_its_bias_bit_for_bit() -> None:
    case = toggled_network("cnn3d-gate")
    none = _Exact(case.graph.layers, case.graph.biases, case.graph._feeds, case.graph._segments)
    biases = corrected_biases(none, case.clips, none.names)
    for layer in none.layers:
        if layer.bias:
            np.testing.assert_array_equal(biases[layer.name], case.graph.biases[layer.bias])


class _Exact(ToggleGraph):
    """A toggle graph whose INT8 equals its float graph."""

    def advance(self, index, state, enabled, biases=None):  # type: ignore[no-untyped-def]
        return super().advance(index, state, (), biases)


def test_only_the_named_layers_biases_change() -> None:
    case = toggled_network("cnn3d-gate")
    quantized = case.quantized()
    name = case.graph.names[0]
    before = to_bytes(quantized)
    changed = with_biases(quantized, {name: np.ones(8, np.float32)})
    assert to_bytes(quantized) == before
    layers = [
        before_node.name
        for before_node, after_node in zip(quantized.graph, changed.graph, strict=True)
        if ir.to_proto(before_node) != ir.to_proto(after_node)
    ]
    assert layers == [name]
    with_itself = with_biases(quantized, {})
    assert to_bytes(with_itself) == to_bytes(quantized)


def test_progress_ends_at_the_end() -> None:
    case, calls = toggled_network("cnn3d-gate"), []
    corrected_biases(case.graph, case.clips[:1], case.graph.names, lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] == len(calls)
