"""INT8 graphs for OpenVINO and sessions of ONNX Runtime compute the integers that the graph states, on every CPU."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgeact.calibration.ranges import Ranges, TensorRange
from edgeact.devices import load_profile
from edgeact.export.graph.passes.apply import REWRITES, apply_rewrites
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import at_opset
from edgeact.export.graph.values import (
    constant_array,
    is_dequantized,
    node_label,
    operand,
    quantized_source,
    static_dims,
)
from edgeact.export.quantize.activation_ranges import collect_ranges, quantized_tensors
from edgeact.export.quantize.exclusions import target_exclusions
from edgeact.export.quantize.fold_weights import fold_weights
from edgeact.export.quantize.qdq import quantize
from edgeact.export.quantize.qdq_placement import MOVING_OPS, place_qdq
from edgeact.runtime import OpenRequest, Session, get_backend
from tests.export.graph.exported import exported, random_clips
from tests.export.graph.graphs import graph, node
from tests.export.quantize.making import as_written, for_openvino
from tests.export.quantize.openvino_avx2 import IS_X86, run_with_avx2
from tests.matrix.sweep import matrix_models

INT16_MAX = 32767
REGISTRY = [
    pytest.param(name, marks=() if name.startswith(("c3d", "cnn3d")) else pytest.mark.slow) for name in matrix_models()
]
"""Every registry model; the conversion of all but the smallest backbones to ONNX is slow."""
SHAPE = (1, 16, 4, 8, 8)
CLASSES = 5

Array = NDArray[np.float32]


def _ranges(tensors: Mapping[str, str]) -> Ranges:
    """Invented ranges: the tested properties hold for any ranges."""
    return Ranges(
        method="minmax",
        clips=1,
        tensors={name: TensorRange(layer=layer, low=-1, high=1, limit=1) for name, layer in tensors.items()},
    )


def _narrow(name: str) -> ir.Model:
    """Return the INT8 graph of a narrow registry model with the Q/DQ placement for CPUs."""
    graph, _ = apply_rewrites(at_opset(exported(name).graph, 17), REWRITES)
    excluded = target_exclusions(graph, load_profile("cpu"))
    quantized = quantize(graph, _ranges(quantized_tensors(graph, excluded)), excluded)
    return place_qdq(quantized, _ranges(quantized_tensors(graph, excluded)), _ranges)


@dataclass(frozen=True)
class _Layer:
    """A layer in INT8: the largest integers that it multiplies."""

    name: str
    activation: int
    weight: int
    is_depthwise: bool

    @property
    def largest_sum(self) -> int:
        """Largest sum of the products that a single instruction adds in int16."""
        return self.activation * self.weight * (1 if self.is_depthwise else 2)


def _layers(model: ir.Model) -> list[_Layer]:
    layers = []
    for layer in model.graph:
        if layer.op_type not in ("Conv", "Gemm", "MatMul") or not is_dequantized(operand(layer, 1)):
            continue  # not a layer, or kept in float
        largest, weight = _largest_activation(operand(layer, 0)), constant_array(quantized_source(operand(layer, 1)))
        assert largest is not None, layer.name
        assert weight is not None, layer.name
        is_depthwise = layer.op_type == "Conv" and weight.shape[1] == 1
        layers.append(_Layer(node_label(layer), largest, int(np.abs(weight.astype(int)).max()), is_depthwise))
    return layers


def _largest_activation(value: ir.Value) -> int | None:
    """Return the largest unsigned integer that a kernel computes with; None if the tensor is in float."""
    node = value.producer()
    if node is None or node.op_type not in ("DequantizeLinear", *MOVING_OPS):
        return None
    if node.op_type in MOVING_OPS:
        sources = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        return max((_largest_activation(source) or 0 for source in sources if source), default=0) or None
    quantizer = operand(node, 0).producer()
    if quantizer is None:
        return None
    zero = constant_array(operand(quantizer, 2))
    clip, scale = operand(quantizer, 0).producer(), constant_array(operand(quantizer, 1))
    if zero is None or zero.dtype != np.uint8 or zero != 0 or clip is None or clip.op_type != "Clip" or scale is None:
        return 255
    largest = constant_array(operand(clip, 2))
    return 255 if largest is None else round(float(largest / scale))


@pytest.mark.parametrize("name", REGISTRY)
def test_no_layer_of_a_registry_model_exceeds_int16(name: str) -> None:
    placed = _narrow(name)
    before, after = _layers(fold_weights(placed)), _layers(for_openvino(placed))
    assert [layer.name for layer in after] == [layer.name for layer in before]
    assert after
    assert all(layer.largest_sum <= INT16_MAX for layer in after), after
    assert any(layer.largest_sum > INT16_MAX for layer in before)


def _network(weight: float = 1.0) -> ir.Model:
    """Return a network of every kind of layer whose weights have equal magnitudes, so that every sum is the largest.

    The first layer reads signed values, the other layers read a ReLU; every second channel is negative before the ReLU.
    """

    def weights(outputs: int, inputs: int, kernel: int) -> Array:
        signs = np.where(np.arange(outputs) % 2, -1, 1).reshape(-1, *(1,) * 4)
        return np.broadcast_to(weight * signs, (outputs, inputs, *(kernel,) * 3)).astype(np.float32)

    constants = {
        "w0": weights(32, 16, 3),
        "w1": weights(32, 8, 3),
        "w2": weights(32, 1, 3),
        "w3": weights(32, 32, 1),
        "w4": weights(CLASSES, 32, 1).reshape(CLASSES, 32),
    }
    nodes = [
        node("Conv", ["x", "w0"], ["a"], "signed dense", pads=[1] * 6),
        node("Relu", ["a"], ["ra"], "relu 1"),
        node("Conv", ["ra", "w1"], ["b"], "grouped", pads=[1] * 6, group=4),
        node("Relu", ["b"], ["rb"], "relu 2"),
        node("Conv", ["rb", "w2"], ["c"], "depthwise", pads=[1] * 6, group=32),
        node("Relu", ["c"], ["rc"], "relu 3"),
        node("Conv", ["rc", "w3"], ["d"], "1x1x1"),
        node("Relu", ["d"], ["rd"], "relu 4"),
        node("ReduceMean", ["rd"], ["e"], "average", axes=[2, 3, 4], keepdims=0),
        node("Gemm", ["e", "w4"], ["y"], "head", transB=1),
    ]
    return graph(nodes, constants, shape=SHAPE)


LAYERS = {
    "dense": ((32, 16, 3, 3, 3), 1),
    "1x1x1": ((32, 16, 1, 1, 1), 1),
    "three channels": ((32, 3, 3, 3, 3), 1),
    "grouped": ((32, 8, 3, 3, 3), 2),
    "depthwise": ((16, 1, 3, 3, 3), 16),
}
"""Shape of the weights, and groups."""


def _layer(kind: str, *, signed: bool) -> ir.Model:
    """Return a single layer, weights of equal magnitude and random sign, behind a ReLU unless `signed`."""
    shape, group = LAYERS[kind]
    weight = np.random.default_rng(0).choice([-1.0, 1.0], shape).astype(np.float32)
    weight[::2] = np.abs(weight[::2])
    read = "x" if signed else "r"
    nodes = [] if signed else [node("Relu", ["x"], ["r"])]
    nodes.append(node("Conv", [read, "w"], ["y"], kind, pads=[shape[-1] // 2] * 6, group=group))
    return graph(nodes, {"w": weight}, shape=(1, shape[1] * group, *SHAPE[2:]))


def _placed(model: ir.Model, clips: list[Array]) -> ir.Model:
    ranges = collect_ranges(model, clips)
    return place_qdq(quantize(model, ranges, {}), ranges, _nothing_observed)


def _extreme_clips(shape: tuple[int, ...] = SHAPE) -> list[Array]:
    """Return clips of the largest value, of both signs, and of three times the calibrated range."""
    ones = np.ones(shape, np.float32)
    both = np.random.default_rng(1).choice([-1.0, 1.0], shape).astype(np.float32)
    return [ones, both, 3 * ones, 3 * both]


def _narrow_network() -> tuple[ir.Model, list[Array]]:
    """Return a narrow registry model, Q/DQ placed with calibrated ranges, and its calibration clips."""
    case = exported("msf-r3d-fsam")
    clips = random_clips(case.clip, 4)
    graph, _ = apply_rewrites(at_opset(case.graph, 17), REWRITES)
    excluded = target_exclusions(graph, load_profile("cpu"))
    ranges = collect_ranges(graph, clips, excluded=excluded)
    return place_qdq(quantize(graph, ranges, excluded), ranges, _nothing_observed), clips


def _nothing_observed(tensors: Mapping[str, str]) -> Ranges:
    raise AssertionError(f"expected no tensor to observe, got {list(tensors)}")


def _snr_db(actual: list[Array], expected: list[Array]) -> float:
    noise = sum(float(np.square(left - right).sum()) for left, right in zip(actual, expected, strict=True))
    return float(10 * np.log10(sum(float(np.square(right).sum()) for right in expected) / noise))


@pytest.mark.slow
def test_openvino_computes_the_exact_integers_with_avx2_alone(tmp_path: Path) -> None:
    """Each kind of layer in the worst case, and a whole network, whose signal was lost without the rewrite."""
    placed, clips = {}, {}
    for kind, signed in itertools.product(LAYERS, (True, False)):
        model, name = _layer(kind, signed=signed), f"{kind}, {'signed' if signed else 'unsigned'}"
        clips[name] = _extreme_clips(static_dims(model.graph.inputs[0]) or ())
        placed[name] = _placed(model, clips[name][:2])
    placed["network"], clips["network"] = _narrow_network()
    models = {name: for_openvino(model) for name, model in placed.items()}
    old = {f"old {name}": fold_weights(model) for name, model in placed.items()}
    outputs, kernels = run_with_avx2(
        {**models, **old}, clips | {f"old {name}": batch for name, batch in clips.items()}, tmp_path
    )
    expected = {name: [as_written(model, clip) for clip in clips[name]] for name, model in models.items()}
    for name, results in expected.items():
        if name != "network":  # its layers requantize: libraries round ties differently
            scale = np.abs(results).max()
            np.testing.assert_allclose(outputs[name], results, rtol=1e-5, atol=1e-6 * scale, err_msg=name)
    assert _snr_db(outputs["network"], expected["network"]) > 30
    if IS_X86:  # else no AVX2 kernel ran
        assert {"jit_avx2_I8", "jit_avx2_1x1_I8"} <= kernels
        assert not any("avx512" in kernel for kernel in kernels)
        for name, model in old.items():
            exact = [as_written(model, clip) for clip in clips[name.removeprefix("old ")]]
            assert (_snr_db(outputs[name], exact) > 60) == (name == "old depthwise, unsigned"), name


@pytest.mark.parametrize("model", [_network(), _network(0.9)], ids=["largest", "smaller"])
def test_onnx_runtime_computes_the_exact_integers_on_this_cpu(model: ir.Model) -> None:
    placed = fold_weights(_placed(model, _extreme_clips()[:2]))
    request = OpenRequest(
        graph=to_bytes(placed),
        kind="onnx",
        precision="int8",
        input_shape=SHAPE,
        output_size=CLASSES,
        input_name="x",
        output_name="y",
        device="CPU",
    )
    with Session(get_backend("onnxruntime"), request) as session:
        for clip in _extreme_clips():
            np.testing.assert_allclose(session.run(clip).logits, as_written(placed, clip), rtol=1e-4)


def test_values_within_the_calibrated_range_remain_the_same() -> None:
    """Only the weights of the layer with signed inputs lose a bit, and weights of +-1 need no eighth bit."""
    clips = _extreme_clips()[:2]
    placed = _placed(_network(), clips)
    model = for_openvino(placed)
    for clip in clips:
        np.testing.assert_allclose(as_written(model, clip), as_written(fold_weights(placed), clip), rtol=1e-5)


@pytest.mark.parametrize("kind", LAYERS)
def test_only_layers_that_add_signed_products_have_weights_of_seven_bits(kind: str) -> None:
    for signed in (True, False):
        model = _layer(kind, signed=signed)
        clips = _extreme_clips(static_dims(model.graph.inputs[0]) or ())
        (layer,) = _layers(for_openvino(_placed(model, clips)))
        assert layer.weight == (64 if signed and kind != "depthwise" else 127)
