"""Q/DQ placement for CPUs: the same layers in INT8, a single scale for moved tensors, an error as small as before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import openvino
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.calibration.ranges import INT8_MAX, Ranges
from edgeact.export.cpu.openvino import to_openvino
from edgeact.export.graph.proto import find_fault, to_bytes
from edgeact.export.graph.values import constant_array, is_constant, name_of, operand
from edgeact.export.quantize.activation_ranges import collect_ranges, observe
from edgeact.export.quantize.qdq import quantize
from edgeact.export.quantize.qdq_placement import place_qdq
from tests.export.graph.graphs import graph, node
from tests.export.graph.passes.running import run

SHAPE = (1, 8, 2, 6, 6)
CLIPS = [np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32) for seed in range(4)]
CENTERED = {"kernel_shape": [3, 3, 3], "pads": [1] * 6}


def _weights(*names: str, inputs: int = 8, outputs: int = 8) -> dict[str, Any]:
    rng = np.random.default_rng(len(names))
    return {name: rng.normal(0, 0.1, (outputs, inputs, 3, 3, 3)).astype(np.float32) for name in names}


def _block(activation: str = "Relu") -> ir.Model:
    """Return a residual block whose inner activation is split and concatenated again."""
    nodes = [
        node("Conv", ["x", "w0"], ["a"], "stem", **CENTERED),
        node(activation, ["a"], ["u"], "activation"),
        node("Conv", ["u", "w1"], ["b"], "first", **CENTERED),
        node("Relu", ["b"], ["v"], "relu"),
        node("Split", ["v", "halves"], ["v1", "v2"], "split", axis=1),
        node("Concat", ["v2", "v1"], ["turned"], "join", axis=1),
        node("Conv", ["turned", "w2"], ["c"], "second", **CENTERED),
        node("Add", ["u", "c"], ["sum"], "add"),
        node("Relu", ["sum"], ["r"], "relu of the sum"),
        node("MaxPool", ["r"], ["pooled"], "pool", kernel_shape=[1, 2, 2], strides=[1, 2, 2]),
        node("Conv", ["pooled", "w3"], ["y"], "last", **CENTERED),
    ]
    return graph(nodes, {**_weights("w0", "w1", "w2", "w3"), "halves": np.array([3, 5], np.int64)}, shape=SHAPE)


def _observe_nothing(tensors: Mapping[str, str]) -> Ranges:
    raise AssertionError(f"expected no tensor to observe, got {list(tensors)}")


def _placed(model: ir.Model) -> ir.Model:
    ranges = collect_ranges(model, CLIPS)
    return place_qdq(quantize(model, ranges, {}), ranges, _observe_nothing)


def _scales(model: ir.Model) -> dict[str, tuple[float, ir.DataType | None]]:
    """Return activation -> (quantization scale, integer type)."""
    scales = {}
    for entry in model.graph:
        scale = constant_array(operand(entry, 1)) if entry.op_type == "QuantizeLinear" else None
        if scale is not None and not is_constant(operand(entry, 0)):
            scales[name_of(operand(entry, 0))] = (float(scale), operand(entry, 2).dtype)
    return scales


def test_activations_are_quantized_if_they_are_made() -> None:
    scales = _scales(_placed(_block()))
    assert {name: kind for name, (_, kind) in scales.items()} == {
        "x": ir.DataType.INT8,
        "u": ir.DataType.UINT8,
        "v": ir.DataType.UINT8,
        "r": ir.DataType.UINT8,
    }  # not the parts of v, the pooled tensor, the tensor added to u, or the output
    assert find_fault(_placed(_block())) is None


def test_constants_stand_in_the_order_of_the_graph() -> None:
    """An order by hashes of names would differ from process to process, and with it the artifact's SHA-256."""
    constants = list(_placed(_block()).graph.initializers)
    assert [name for name in constants if name in ("x_scale", "u_scale", "v_scale", "r_scale")] == [
        "x_scale",
        "u_scale",
        "v_scale",
        "r_scale",
    ]


def test_a_scale_behind_a_relu_covers_its_output_only() -> None:
    model = _block()
    seen = observe(model, {"u": "", "v": ""}, CLIPS, "minmax").tensors
    scales = _scales(_placed(model))
    for name in ("u", "v"):
        assert scales[name][0] == pytest.approx(seen[name].high / INT8_MAX, rel=1e-5)


def test_activations_of_both_signs_remain_signed() -> None:
    scales = _scales(_placed(_block("Tanh")))
    assert scales["u"][1] == ir.DataType.INT8
    assert scales["r"][1] == ir.DataType.UINT8


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), activation=st.sampled_from(["Relu", "Tanh", "Sigmoid"]))
def test_the_error_is_as_small_as_before(seed: int, activation: str) -> None:
    model = _block(activation)
    ranges = collect_ranges(model, CLIPS)
    quantized = quantize(model, ranges, {})
    x = CLIPS[seed % len(CLIPS)]
    expected = run(model, x)
    before, after = (
        float(np.square(run(each, x) - expected).sum())
        for each in (quantized, place_qdq(quantized, ranges, _observe_nothing))
    )
    assert after <= 1.2 * before
    assert after < 1e-2 * float(np.square(expected).sum())


def test_excluded_layers_are_kept_in_float() -> None:
    model, excluded = _block(), {"second": "excluded by the test"}
    ranges = collect_ranges(model, CLIPS, excluded=excluded)
    placed = place_qdq(quantize(model, ranges, excluded), ranges, lambda names: observe(model, names, CLIPS, "minmax"))
    assert set(_scales(placed)) == {"x", "u", "r"}  # v is read by no other layer


def test_limits_that_cannot_be_derived_are_observed() -> None:
    nodes = [
        node("Conv", ["x", "w0"], ["a"], "stem", **CENTERED),
        node("Tanh", ["x"], ["t"], "tanh"),
        node("Add", ["t", "a"], ["sum"], "add"),
        node("Conv", ["sum", "w1"], ["y"], "last", **CENTERED),
    ]
    model = graph(nodes, _weights("w0", "w1"), shape=SHAPE)
    ranges = collect_ranges(model, CLIPS)
    requested: list[str] = []

    def observe_and_note(tensors: Mapping[str, str]) -> Ranges:
        requested.extend(tensors)
        return observe(model, tensors, CLIPS, "minmax")

    placed = place_qdq(quantize(model, ranges, {}), ranges, observe_and_note)
    assert requested == ["t"]
    assert _scales(placed)["t"][0] == pytest.approx(observe_and_note({"t": ""}).tensors["t"].limit / INT8_MAX, rel=1e-5)


def test_an_activation_that_is_always_0_gets_a_positive_scale() -> None:
    """A dead branch does not stop calibration: every scale represents 0."""
    nodes = [
        node("Conv", ["x", "w0"], ["a"], "stem", **CENTERED),
        node("Conv", ["x", "w1", "b"], ["c"], "shut", **CENTERED),
        node("Relu", ["c"], ["dead"], "relu"),
        node("Conv", ["dead", "w2"], ["d"], "behind it", **CENTERED),
        node("Add", ["a", "d"], ["sum"], "add"),
        node("Conv", ["sum", "w3"], ["y"], "last", **CENTERED),
    ]
    constants = {**_weights("w0", "w1", "w2", "w3"), "b": np.full(8, -99, np.float32)}
    model = graph(nodes, constants, shape=SHAPE)
    ranges = collect_ranges(model, CLIPS)
    assert ranges.tensors["dead"].limit == 0
    placed = place_qdq(quantize(model, ranges, {}), ranges, lambda tensors: observe(model, tensors, CLIPS, "minmax"))
    assert all(scale > 0 for scale, _ in _scales(placed).values())
    assert _snr(model, placed) > 30


def test_quantization_is_placed_before_a_maximum() -> None:
    """OpenVINO 2026.4 computes a convolution wrongly if its input is quantized behind the maximum."""
    nodes = [
        node("Conv", ["x", "w0"], ["a"], "stem", **CENTERED),
        node("Relu", ["a"], ["u"], "relu"),
        node("ReduceMax", ["u"], ["most"], "max over time", axes=[2], keepdims=1),
        node("Conv", ["most", "w1"], ["y"], "last", **CENTERED),
    ]
    model = graph(nodes, _weights("w0", "w1"), shape=SHAPE)
    placed = _placed(model)
    assert set(_scales(placed)) == {"x", "u"}
    assert _snr(model, placed) > 30
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(*to_openvino(to_bytes(placed))), "CPU")
    assert _decibels([run(model, clip) for clip in CLIPS], [compiled(clip)[0] for clip in CLIPS]) > 30


def _snr(model: ir.Model, other: ir.Model) -> float:
    return _decibels([run(model, clip) for clip in CLIPS], [run(other, clip) for clip in CLIPS])


def _decibels(expected: list[Any], actual: list[Any]) -> float:
    noise = sum(float(np.square(left - right).sum()) for left, right in zip(expected, actual, strict=True))
    return float(10 * np.log10(sum(float(np.square(left).sum()) for left in expected) / noise))
