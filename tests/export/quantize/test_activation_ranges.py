"""Observed ranges are those of the graph's own tensors, for any method, part size and number of cores."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeact.calibration.histogram import count_magnitudes
from edgeact.calibration.range_methods import METHODS, MethodName
from edgeact.calibration.ranges import checkpoints
from edgeact.errors import CalibrationError
from edgeact.export.quantize import activation_ranges as module
from edgeact.export.quantize.activation_ranges import collect_ranges, quantized_tensors
from tests.export.graph.exported import exported, random_clips
from tests.export.graph.graphs import graph, node
from tests.messages import names


def _values(model: ir.Model, names: list[str], clips: list[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return all values of the tensors over all clips, computed by ONNX Runtime."""
    proto = ir.to_proto(model)
    input_name = proto.graph.input[0].name
    computed = [name for name in names if name != input_name]
    del proto.graph.output[:]
    proto.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in computed)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [
        dict(zip(computed, session.run(computed, {input_name: clip}), strict=True)) | {input_name: clip}
        for clip in clips
    ]
    return {name: np.concatenate([run[name].reshape(-1) for run in runs]) for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_range_is_the_methods_over_all_values_of_the_tensor(method: MethodName) -> None:
    case = exported("cnn3d-gate")
    clips = random_clips(case.clip, 5)
    observed = collect_ranges(case.graph, clips, method)
    layers = quantized_tensors(case.graph)
    assert list(observed.tensors) == list(layers)
    values = _values(case.graph, list(layers), clips)
    for name, tensor in observed.tensors.items():
        assert tensor.layer == layers[name]
        assert (tensor.low, tensor.high) == pytest.approx((values[name].min(), values[name].max()), rel=1e-4)
        assert tensor.limit == pytest.approx(METHODS[method](count_magnitudes(values[name])), rel=1e-2)
        assert tensor.clipped == pytest.approx(
            (np.abs(values[name]) > tensor.limit).mean(), abs=2 / values[name].size + 1e-3
        )
    if method == "minmax":
        assert {tensor.clipped for tensor in observed.tensors.values()} == {0.0}


def test_excluded_layers_are_not_observed() -> None:
    case = exported("cnn3d-gate")
    layers = quantized_tensors(case.graph)
    first = next(iter(layers.values()))
    left = collect_ranges(case.graph, random_clips(case.clip, 1), excluded={first: "excluded by the test"})
    assert first not in {tensor.layer for tensor in left.tensors.values()}
    assert set(left.tensors) < set(layers)


@pytest.mark.slow
def test_parts_and_cores_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case = exported("msf-r3d-fsam")
    clips = random_clips(case.clip, 9)
    whole = collect_ranges(case.graph, clips, "mse")
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "_MAX_BYTES", 200_000)
    monkeypatch.setattr(module, "usable_cores", lambda: 5)
    assert collect_ranges(case.graph, clips, "mse", (), lambda done, total: seen.append((done, total))) == whole
    parts = seen[-1][1] // 9
    assert parts > 3
    assert seen == [(done, 9 * parts) for done in range(1, 9 * parts + 1)]


def test_the_order_of_clips_changes_nothing_but_the_settling() -> None:
    case = exported("cnn3d-gate")
    clips = random_clips(case.clip, 6)
    there, back = (collect_ranges(case.graph, order, "entropy") for order in (clips, clips[::-1]))
    for name, tensor in there.tensors.items():
        other = back.tensors[name]
        assert (tensor.low, tensor.high, tensor.limit, tensor.clipped) == (
            other.low,
            other.high,
            other.limit,
            other.clipped,
        )


def _conv() -> ir.Model:
    nodes = [node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1, 1]), node("Relu", ["c"], ["y"])]
    return graph(nodes, {"w": np.ones((4, 4, 1, 1, 1), np.float32)}, shape=(1, 4, 2, 4, 4))


def _clips(*values: float) -> list[NDArray[Any]]:
    return [np.full((1, 4, 2, 4, 4), value, np.float32) for value in values]


def test_the_settling_is_that_of_the_clips_in_their_order() -> None:
    early = collect_ranges(_conv(), _clips(*([1.0] * 10), 4.0, *([1.0] * 21)))
    assert {tensor.settled_after for tensor in early.tensors.values()} == {12}
    assert {tensor.last_change for tensor in early.tensors.values()} == {0.0}
    late = collect_ranges(_conv(), _clips(*([1.0] * 20), 4.0))
    assert late.settled_after is None
    assert {tensor.last_change for tensor in late.tensors.values()} == {0.75}
    assert 10 in checkpoints(21)


def test_an_activation_that_is_not_finite_is_reported_with_its_layer() -> None:
    with pytest.raises(CalibrationError, check=names("range of 'c'", "not usable: layer 'the_Conv' gives inf")):
        collect_ranges(_conv(), _clips(1.0, 3e38))


def test_both_inputs_of_a_product_count_and_constants_do_not() -> None:
    nodes = [
        node("MatMul", ["x", "m"], ["a"], "by_weight"),
        node("MatMul", ["a", "x"], ["y"], "by_each_other"),
    ]
    model = graph(nodes, {"m": np.eye(4, dtype=np.float32)}, shape=(1, 4, 4))
    assert quantized_tensors(model) == {"x": "by_weight", "a": "by_weight", "y": "by_each_other"}
    assert quantized_tensors(model, {"by_weight": ""}) == dict.fromkeys(("a", "x", "y"), "by_each_other")
