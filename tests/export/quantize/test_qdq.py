"""The symmetric INT8 graph: its Q/DQ nodes, its signal-to-noise ratio in every runtime, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import openvino
import pytest
from numpy.typing import NDArray

from edgeact.devices import load_profile
from edgeact.errors import CalibrationError, ConversionError
from edgeact.export.cpu.openvino import to_openvino
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import at_opset
from edgeact.export.graph.values import (
    constant_array,
    is_constant,
    is_dequantized,
    name_of,
    operand,
    static_dims,
    weight_dims,
)
from edgeact.export.quantize.activation_ranges import collect_ranges, observe
from edgeact.export.quantize.exclusions import target_exclusions
from edgeact.export.quantize.qdq import MIN_CLASSES, MIN_CLIPS, SMALLEST_SCALE, check_clips, float_layers, quantize
from edgeact.export.quantize.qdq_placement import place_qdq
from edgeact.export.tensorrt.rtx_compiler import parse_only
from edgeact.layer_reasons import AttentionGate, FloatReason, KeptOnRequest
from tests.export.graph.exported import Exported, exported, random_clips, run_onnx
from tests.export.graph.graphs import graph, node
from tests.export.quantize.making import for_openvino
from tests.messages import names

NAMES = ["msf-r3d-fsam", "r3d-18", "cnn3d-gate"]
CPU = load_profile("cpu")


def _quantized(case: Exported, excluded: Mapping[str, FloatReason] | None = None) -> ir.Model:
    chosen = target_exclusions(case.graph, CPU) if excluded is None else excluded
    graph = at_opset(case.graph, 17)
    return quantize(graph, collect_ranges(graph, random_clips(case.clip, 8), excluded=chosen), chosen)


def _constants(model: ir.Model) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.numpy() for name, tensor in model.graph.initializers.tensor_items()}


def _signal_to_noise_db(actual: list[NDArray[np.float32]], expected: list[NDArray[np.float32]]) -> float:
    noise = np.sum([np.square(left - right).sum() for left, right in zip(actual, expected, strict=True)])
    return float(10 * np.log10(np.sum([np.square(right).sum() for right in expected]) / noise))


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_holds_symmetric_int8_alone(name: str) -> None:
    model = _quantized(exported(name))
    pairs = [entry for entry in model.graph if entry.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for pair in pairs:
        scale, zero = (constant_array(value) for value in pair.inputs[1:])
        assert scale is not None
        assert zero is not None
        assert zero.dtype == np.int8
        assert not zero.any()
        assert (scale > 0).all()
        if pair.op_type == "QuantizeLinear":
            assert "DequantizeLinear" in {reader.op_type for reader in pair.outputs[0].consumers()}
    for layer in model.graph:
        source = operand(layer, 1).producer() if layer.op_type in ("Conv", "Gemm") else None
        if source is not None and source.op_type == "DequantizeLinear":
            assert static_dims(operand(source, 1)) == (weight_dims(layer) or ())[:1]
        if layer.op_type in ("Conv", "Gemm") and len(layer.inputs) > 2:
            assert operand(layer, 2).dtype == ir.DataType.FLOAT
            assert is_constant(operand(layer, 2))
    assert not model.metadata_props


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_runtime_takes_it_and_keeps_the_signal(name: str) -> None:
    """TensorRT and ONNX Runtime run the graph, OpenVINO the placement for CPUs."""
    case = exported(name, 16)
    clips = random_clips(case.clip, 8)
    source, excluded = at_opset(case.graph, 17), target_exclusions(case.graph, CPU)
    ranges = collect_ranges(source, clips, excluded=excluded)
    model = quantize(source, ranges, excluded)
    expected = [run_onnx(case.graph, clip) for clip in clips]
    assert _signal_to_noise_db([run_onnx(model, clip) for clip in clips], expected) > 15
    core = openvino.Core()
    placed = place_qdq(model, ranges, lambda tensors: observe(source, tensors, clips, "minmax"))
    compiled = core.compile_model(core.read_model(*to_openvino(to_bytes(for_openvino(placed)))), "CPU")
    assert _signal_to_noise_db([compiled(clip)[0] for clip in clips], expected) > 10
    pytest.importorskip("tensorrt_rtx")
    parse_only(to_bytes(model))


def test_skipped_layers_remain_in_float() -> None:
    case = exported("cnn3d")
    layers = [name_of(entry) for entry in case.graph.graph if entry.op_type in ("Conv", "Gemm")]
    excluded: dict[str, FloatReason] = {layers[0]: KeptOnRequest(module="stem"), "no such layer": AttentionGate()}
    model = _quantized(case, excluded)
    quantized = {
        entry.name
        for entry in model.graph
        if entry.op_type in ("Conv", "Gemm") and any(is_dequantized(value) for value in entry.inputs)
    }
    assert quantized == set(layers[1:])
    assert float_layers(case.graph, excluded) == {layers[0]: KeptOnRequest(module="stem")}


def test_equal_inputs_give_equal_bytes_and_are_not_changed() -> None:
    case = exported("cnn3d-gate")
    before = to_bytes(case.graph)
    assert to_bytes(_quantized(case)) == to_bytes(_quantized(case))
    assert to_bytes(case.graph) == before


def _conv(weight: NDArray[np.float32]) -> ir.Model:
    nodes = [node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1, 1]), node("Relu", ["c"], ["y"])]
    return graph(nodes, {"w": weight}, shape=(1, 4, 2, 4, 4))


def test_scales_of_nearly_empty_channels_keep_their_digits_in_fp16() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 4, 1, 1, 1)).astype(np.float32)
    weight[1] *= 1e-5
    weight[2] = 0
    model = _calibrated(_conv(weight), [np.ones((1, 4, 2, 4, 4), np.float32)])
    (quantizer,) = model.graph.initializers["w"].consumers()
    scale = constant_array(operand(quantizer, 1))
    assert scale is not None
    assert scale[1] == np.float32(SMALLEST_SCALE)
    assert (scale >= np.float32(SMALLEST_SCALE)).all()
    assert np.allclose(scale.astype(np.float16).astype(np.float32), scale, rtol=2**-10)
    np.testing.assert_allclose(scale[[0, 3]], np.abs(weight[[0, 3]]).max(axis=(1, 2, 3, 4)) / 127, rtol=1e-5)
    x = np.random.default_rng(1).uniform(0, 1, (1, 4, 2, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(run_onnx(model, x), run_onnx(_conv(weight), x), atol=0.05)


def _calibrated(model: ir.Model, clips: list[NDArray[Any]]) -> ir.Model:
    return quantize(model, collect_ranges(model, clips), {})


def _dead() -> ir.Model:
    weight = {"w": np.ones((4, 4, 1, 1, 1), np.float32), "low": np.float32(-1000)}
    nodes = [
        node("Add", ["x", "low"], ["below"]),
        node("Relu", ["below"], ["dead"]),
        node("Conv", ["dead", "w"], ["y"], kernel_shape=[1, 1, 1]),
    ]
    return graph(nodes, weight, shape=(1, 4, 2, 4, 4))


GOOD = np.ones((1, 4, 2, 4, 4), np.float32)
LIVE = np.ones((4, 4, 1, 1, 1), np.float32)
REFUSED: dict[str, tuple[ir.Model, list[NDArray[Any]], str]] = {
    "no clip": (_conv(LIVE), [], "expected calibration clips, got none"),
    "nan": (_conv(LIVE), [GOOD, GOOD * np.float32("nan")], "clip 1 holds NaN or infinity"),
    "infinity": (_conv(LIVE), [GOOD * np.float32("inf")], "clip 0 holds NaN or infinity"),
    "shape": (
        _conv(LIVE),
        [GOOD[:, :3]],
        "expected float32 of shape (1, 4, 2, 4, 4), got float32 of (1, 3, 2, 4, 4)",
    ),
    "type": (_conv(LIVE), [GOOD.astype(np.float64)], "got float64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unfit_clips_and_ranges_are_refused(name: str) -> None:
    model, clips, says = REFUSED[name]
    with pytest.raises(CalibrationError, check=names(says)):
        _calibrated(model, clips)


def test_an_activation_that_is_always_0_does_not_stop_the_others() -> None:
    model = _dead()
    quantized = _calibrated(model, [GOOD])
    assert _constants(quantized)["dead_scale"] > 0
    np.testing.assert_array_equal(run_onnx(quantized, GOOD), run_onnx(model, GOOD))


def test_a_scale_that_truly_is_one_is_kept() -> None:
    model = _calibrated(_conv(LIVE), [GOOD * 127])
    assert _constants(model)["x_scale"] == 1
    np.testing.assert_array_equal(run_onnx(model, GOOD * 127), run_onnx(_conv(LIVE), GOOD * 127))


def test_a_graph_the_quantizer_cannot_read_is_reported() -> None:
    model = _conv(LIVE)
    ranges = collect_ranges(model, [GOOD])
    model.graph.initializers["w"].const_value = ir.tensor(LIVE * np.float32("nan"))
    with pytest.raises(ConversionError, check=names("INT8 quantization failed:", "; try --precision fp16")):
        quantize(model, ranges, {})


def test_a_graph_that_cannot_be_run_is_reported() -> None:
    model = _conv(LIVE)
    model.graph[1].op_type = "NoSuchOperator"
    with pytest.raises(ConversionError, check=names("ONNX Runtime cannot run the graph:", "NoSuchOperator")):
        collect_ranges(model, [GOOD])


def test_a_layer_that_was_not_calibrated_is_reported() -> None:
    ranges = collect_ranges(_conv(LIVE), [GOOD])
    other = _conv(LIVE)
    other.graph.inputs[0].name = "x2"
    with pytest.raises(CalibrationError, check=names("'the_Conv'", "'x2'")):
        quantize(other, ranges, {})


def test_too_few_clips_need_acceptance() -> None:
    check_clips(MIN_CLIPS, MIN_CLASSES, accept_poor=False)
    check_clips(1, 1, accept_poor=True)
    with pytest.raises(
        CalibrationError,
        check=names(f"at least {MIN_CLIPS} calibration clips", f"got {MIN_CLIPS - 1}", "--accept-poor"),
    ):
        check_clips(MIN_CLIPS - 1, MIN_CLASSES, accept_poor=False)
    with pytest.raises(
        CalibrationError, check=names("at least 2 classes, got 1; give data of all classes", "--accept-poor")
    ):
        check_clips(MIN_CLIPS, 1, accept_poor=False)


def test_nothing_is_printed_and_logging_remains_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    logging.disable(logging.ERROR)
    try:
        _calibrated(_conv(LIVE), [GOOD])
        assert logging.root.manager.disable == logging.ERROR
    finally:
        logging.disable(logging.NOTSET)
    assert capfd.readouterr() == ("", "")
