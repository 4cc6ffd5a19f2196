"""The strongly typed FP16 graph: its outputs, its layers kept in FP32 with reasons, and its TensorRT build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from edgeact.devices import load_profile
from edgeact.errors import ConversionError
from edgeact.export.graph.activation_extrema import largest_values
from edgeact.export.graph.proto import find_fault, from_proto, to_bytes
from edgeact.export.graph.values import given_inputs, operand, opset_of, static_dims
from edgeact.export.tensorrt.cast import to_half, with_float_quantizers
from edgeact.export.tensorrt.fp16 import HEADROOM, to_strong_fp16
from edgeact.export.tensorrt.lint import lint_graph, raise_on_errors
from edgeact.export.tensorrt.rtx_compiler import check_and_build
from edgeact.layer_reasons import (
    ActivationOverflows,
    ActivationUnderflows,
    ConstantOverflows,
    ConstantRounded,
    FusedWithFp32Layer,
    NoFp16Operator,
    SumOverflows,
    SumUnbounded,
)
from tests.export.graph.graphs import Conv, conv, conv_proto, graph, node
from tests.messages import names

Array = NDArray[np.float32]
RNG = np.random.default_rng(0)
EYE = (np.eye(4, dtype=np.float32)).reshape(4, 4, 1, 1, 1)
SHAPE = (1, 4, 2, 3, 3)


def _run(model: ir.Model, sample: Array) -> Array:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(to_bytes(model), options, providers=["CPUExecutionProvider"])
    output: Array = session.run(None, {"x": sample})[0]
    return output


def _run_as_stated(model: ir.Model, sample: Array) -> Array:
    """Run every node in the type that the graph states.

    ONNX Runtime computes FP16 in FP32 on CPUs and hides an overflow; some of its releases truncate in FP16 Q/DQ.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        [output] = ReferenceEvaluator(ir.to_proto(model)).run(["y"], {"x": sample})
    return np.asarray(output)


def _snr_db(reference: Array, got: Array) -> float:
    return float(10 * np.log10(np.sum(reference**2) / np.sum((reference - got) ** 2)))


def _layer(model: ir.Model, name: str) -> ir.Node:
    return next(entry for entry in model.graph if entry.name == name)


def _type_of(model: ir.Model, layer: str) -> ir.DataType | None:
    """Return the element type of a layer's first input."""
    return operand(_layer(model, layer), 0).dtype


def _network() -> ir.Model:
    """A network with the layers of 3-D CNNs: convolutions, a residual, a gate, pooling and a classifier."""
    weights = {
        "w1": RNG.normal(0, 0.1, (16, 3, 3, 3, 3)),
        "w2": RNG.normal(0, 0.1, (16, 16, 3, 3, 3)),
        "wg": RNG.normal(0, 0.1, (16, 16, 1, 1, 1)),
        "wf": RNG.normal(0, 0.1, (16, 5)),
        "bf": RNG.normal(0, 0.1, 5),
    }
    nodes = [
        node("Conv", ["x", "w1"], ["a"], "stem", pads=[1] * 6),
        node("Relu", ["a"], ["b"], "stem_relu"),
        node("Conv", ["b", "w2"], ["c"], "body", pads=[1] * 6),
        node("GlobalAveragePool", ["c"], ["d"], "squeeze"),
        node("Conv", ["d", "wg"], ["e"], "excite"),
        node("Sigmoid", ["e"], ["f"], "gate"),
        node("Mul", ["c", "f"], ["g"], "scale"),
        node("Add", ["g", "b"], ["h"], "residual"),
        node("ReduceMean", ["h"], ["i"], "mean", axes=[2, 3, 4], keepdims=0),
        node("Gemm", ["i", "wf", "bf"], ["y"], "classifier"),
    ]
    constants = {name: value.astype(np.float32) for name, value in weights.items()}
    return graph(nodes, constants, shape=(1, 3, 4, 12, 12))


def _loud(gain: float, *, rest: float = 1.0) -> ir.Model:
    """Two adjacent layers whose outputs are `gain` times as large, and a layer that scales them back."""
    nodes = [
        node("Conv", ["x", "loud"], ["a"], "amplifier"),
        node("Relu", ["a"], ["b"], "neighbor"),
        node("Conv", ["b", "quiet"], ["c"], "attenuator"),
        node("Relu", ["c"], ["y"], "after"),
    ]
    constants = {"loud": EYE * np.float32(gain), "quiet": EYE * np.float32(rest / gain)}
    return graph(nodes, constants, shape=SHAPE)


def test_network_becomes_fp16_inside_and_float32_outside() -> None:
    model = _network()
    samples = [RNG.normal(size=(1, 3, 4, 12, 12)).astype(np.float32) for _ in range(2)]
    result = to_strong_fp16(model, samples)
    assert result.float_layers == {}
    assert result.flushed_weights == {}
    assert result.largest_activation == max(largest_values(model, samples).values())
    assert {_type_of(result.model, name) for name in ("stem", "body", "gate", "mean")} == {ir.DataType.FLOAT16}
    ends = (*result.model.graph.inputs, *result.model.graph.outputs)
    assert [(value.name, value.dtype) for value in ends] == [("x", ir.DataType.FLOAT), ("y", ir.DataType.FLOAT)]
    assert sum(entry.op_type == "Cast" for entry in result.model.graph) == 2
    assert opset_of(result.model) == 17
    assert _snr_db(_run(model, samples[0]), _run(result.model, samples[0])) > 50


def test_quantized_graph_moves_to_opset_19_with_fp16_scales() -> None:
    model = conv(Conv(quantized=True))
    sample = RNG.normal(size=(1, 16, 4, 8, 8)).astype(np.float32)
    result = to_strong_fp16(model, [sample])
    assert result.float_layers == {}
    assert opset_of(result.model) == 19
    scales = [operand(entry, 1) for entry in result.model.graph if "Linear" in entry.op_type]
    assert {scale.dtype for scale in scales} == {ir.DataType.FLOAT16}
    assert _snr_db(_run(model, sample), _run_as_stated(result.model, sample)) > 40
    assert opset_of(model) == 17  # the original is not touched


def test_quantizers_in_float_round_on_every_release_of_onnx_runtime() -> None:
    sample = RNG.normal(size=(1, 16, 4, 8, 8)).astype(np.float32)
    half = to_strong_fp16(conv(Conv(quantized=True)), [sample])
    wider = with_float_quantizers(half.model)
    [quantizer] = (entry for entry in wider.graph if entry.op_type == "QuantizeLinear")
    assert [operand(quantizer, index).dtype for index in (0, 1)] == [ir.DataType.FLOAT] * 2
    assert _type_of(wider, "the_conv") == ir.DataType.FLOAT16
    assert _snr_db(_run_as_stated(half.model, sample), _run(wider, sample)) > 40
    plain = _network()
    assert to_bytes(with_float_quantizers(plain)) == to_bytes(plain)


def test_neighbors_too_loud_for_fp16_remain_in_fp32_without_a_cast_between() -> None:
    model, sample = _loud(1e6), np.full(SHAPE, 0.5, np.float32)
    result = to_strong_fp16(model, [sample])
    assert set(result.float_layers) == {"amplifier", "neighbor", "attenuator"}
    assert set(result.fp32_under_weak_typing) == set(result.float_layers)
    neighbor = result.float_layers["neighbor"]
    assert isinstance(neighbor, ActivationOverflows)
    assert neighbor.largest == pytest.approx(5e5)
    assert result.float_layers["amplifier"] == ConstantOverflows(constant="loud", largest=1e6, limit=65504)
    assert _type_of(result.model, "after") == ir.DataType.FLOAT16
    np.testing.assert_allclose(_run_as_stated(result.model, sample), _run_as_stated(model, sample), rtol=1e-3)


def test_without_the_policy_that_network_overflows() -> None:
    sample = np.full(SHAPE, 0.5, np.float32)
    assert not np.isfinite(_run_as_stated(to_half(_loud(6e4), ()), sample * 4)).all()
    assert np.isfinite(_run_as_stated(to_strong_fp16(_loud(6e4), [sample * 4]).model, sample * 4)).all()


@pytest.mark.parametrize(("gain", "stays"), [(30_000.0, False), (36_000.0, True)])
def test_layers_keep_a_margin_of_four_below_the_end_of_fp16(gain: float, stays: bool) -> None:
    result = to_strong_fp16(_loud(gain), [np.full(SHAPE, 0.5, np.float32)])
    assert ("neighbor" in result.float_layers) == stays


def test_activations_below_the_normal_range_remain_in_fp32() -> None:
    result = to_strong_fp16(_loud(1e-5), [np.full(SHAPE, 0.5, np.float32)])
    assert isinstance(result.float_layers["neighbor"], ActivationUnderflows)


def test_sums_that_could_overflow_remain_in_fp32() -> None:
    model = graph([node("ReduceMean", ["x"], ["y"], "mean", axes=[2, 3, 4])], shape=(1, 1, 8, 32, 32))
    sample = np.full((1, 1, 8, 32, 32), 9.0, np.float32)
    reason = to_strong_fp16(model, [sample]).float_layers["mean"]
    assert reason == SumOverflows(operator="ReduceMean", terms=8192, bound=8192 * 9.0, limit=65504 / HEADROOM)
    assert to_strong_fp16(model, [np.ones_like(sample)]).float_layers == {}


def test_softmax_adds_up_along_its_axis_only() -> None:
    model = graph([node("Softmax", ["x"], ["y"], "attention", axis=-1)], shape=(8, 64, 64))
    assert to_strong_fp16(model, [np.ones((8, 64, 64), np.float32)]).float_layers == {}
    wide = graph([node("Softmax", ["x"], ["y"], "attention", axis=1)], shape=(1, 20_000, 2))
    peaked = np.zeros((1, 20_000, 2), np.float32)
    peaked[:, 0] = 9.0
    result = to_strong_fp16(wide, [peaked])
    reason = result.float_layers["attention"]
    assert isinstance(reason, SumOverflows)
    assert reason.terms == 20_000


def test_without_samples_every_sum_remains_in_fp32() -> None:
    result = to_strong_fp16(_network(), None)
    assert result.float_layers == {
        layer: SumUnbounded(operator=operator, cause="no-sample-clips")
        for layer, operator in (("squeeze", "GlobalAveragePool"), ("mean", "ReduceMean"))
    }
    assert result.largest_activation is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_layer(bad: float) -> None:
    model = _loud(1.0)
    weight = EYE.copy()
    weight[0, 0] = bad
    model.graph.initializers["loud"].const_value = ir.tensor(weight)
    with pytest.raises(ConversionError, check=names("'amplifier' (Conv): expected finite weights")):
        to_strong_fp16(model, None)


def test_fp32_that_overflows_itself_is_refused_by_layer() -> None:
    model = graph([node("Exp", ["x"], ["y"], "explosion")], shape=(1, 4))
    with pytest.raises(ConversionError, check=names("'explosion'")):
        to_strong_fp16(model, [np.full((1, 4), 100, np.float32)])


def test_flushed_weights_are_counted_and_tiny_tensors_remain_in_fp32() -> None:
    model = _loud(1.0)
    weight = EYE.copy()
    weight[0, 1] = weight[1, 0] = 1e-9
    model.graph.initializers["loud"].const_value = ir.tensor(weight)
    result = to_strong_fp16(model, [np.ones(SHAPE, np.float32)])
    assert result.flushed_weights == {"amplifier": 2}
    assert result.float_layers == {}
    tiny = to_strong_fp16(_loud(1e-8, rest=1.0), None)
    assert isinstance(tiny.float_layers["amplifier"], ConstantRounded)


def test_scale_too_small_for_fp16_keeps_the_whole_quantized_layer_in_fp32() -> None:
    model = conv(Conv(quantized=True))
    scales = np.full(16, 0.002, np.float32)
    scales[3] = 1e-9
    model.graph.initializers["w_scale"].const_value = ir.tensor(scales)
    result = to_strong_fp16(model, None)
    fused = dict.fromkeys(("the_conv", "the_quantizer", "the_dequantizer"), FusedWithFp32Layer(layer="the_conv"))
    assert {layer: reason for layer, reason in result.float_layers.items() if layer != "the_weight"} == fused
    assert isinstance(result.float_layers["the_weight"], ConstantRounded)
    assert result.fp32_under_weak_typing == (), "weak typing has FP32 scales, so the layer can be INT8 there"
    assert [value.dtype for value in given_inputs(_layer(result.model, "the_conv"))] == [ir.DataType.FLOAT] * 2
    pytest.importorskip("tensorrt_rtx")
    assert check_and_build(to_bytes(result.model), "8.9").engine


def test_layers_that_share_a_quantized_activation_remain_in_fp32_together() -> None:
    proto = conv_proto(Conv(quantized=True))
    proto.graph.node[-1].output[0] = "first"
    tiny = {"t_int8": np.ones((16, 16, 1, 1, 1), np.int8), "t_scale": np.float32(1e-9), "t_zero": np.int8(0)}
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in tiny.items()
    )
    proto.graph.node.extend(
        [
            node("DequantizeLinear", ["t_int8", "t_scale", "t_zero"], ["t"], "tiny_weight"),
            node("Conv", ["x_back", "t"], ["second"], "tiny_conv"),
            node("Add", ["first", "second"], ["y"], "sum"),
        ]
    )
    model = from_proto(proto)
    result = to_strong_fp16(model, None)
    pairs = {"the_quantizer", "the_dequantizer", "the_weight", "tiny_weight"}
    assert set(result.float_layers) == {"the_conv", "tiny_conv"} | pairs
    assert _type_of(result.model, "sum") == ir.DataType.FLOAT16


@pytest.mark.parametrize(
    "attributes", [{"value_float": 2.0}, {"value": onnx.numpy_helper.from_array(np.full(1, 2.0, np.float32))}]
)
def test_constants_in_nodes_are_kept(attributes: dict[str, Any]) -> None:
    nodes = [node("Constant", [], ["c"], **attributes), node("Mul", ["x", "c"], ["y"])]
    result = to_strong_fp16(graph(nodes, shape=SHAPE), None)
    np.testing.assert_array_equal(_run(result.model, np.ones(SHAPE, np.float32)), np.full(SHAPE, 2.0))


def test_operators_without_fp16_remain_in_fp32() -> None:
    nodes = [
        node("Relu", ["x"], ["a"], "before"),
        node("Resize", ["a", "", "scales"], ["b"], "resize"),
        node("Shape", ["b"], ["s"], "shape"),
        node("ConstantOfShape", ["s"], ["ones"], "ones", value=onnx.numpy_helper.from_array(np.ones(1, np.float32))),
        node("Add", ["b", "ones"], ["y"], "sum"),
    ]
    model = graph(nodes, {"scales": np.array([1, 1, 1, 2, 2], np.float32)}, shape=SHAPE)
    sample = np.ones(SHAPE, np.float32)
    result = to_strong_fp16(model, [sample])
    assert result.float_layers == {"ones": NoFp16Operator(operator="ConstantOfShape", opset=opset_of(model))}
    assert operand(_layer(result.model, "resize"), 2).dtype == ir.DataType.FLOAT
    np.testing.assert_array_equal(_run(result.model, sample), _run(model, sample))


def test_control_flow_is_refused_by_layer() -> None:
    branch = onnx.helper.make_graph(
        [node("Relu", ["x"], ["z"])], "b", [], [onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None)]
    )
    model = graph([node("If", ["yes"], ["y"], "fork", then_branch=branch, else_branch=branch)], {"yes": np.bool_(True)})
    with pytest.raises(ConversionError, check=names("'fork' (If)", "unroll")):
        to_strong_fp16(model, None)


@pytest.mark.parametrize("sm", ["7.5", "8.9", "12.0"])
@pytest.mark.parametrize("make", [_network, lambda: conv(Conv(quantized=True))], ids=["float", "int8"])
def test_tensorrt_for_rtx_builds_the_variant(make: Callable[[], ir.Model], sm: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = make()
    shape = static_dims(model.graph.inputs[0])
    assert shape is not None
    half = to_strong_fp16(model, [np.ones(shape, np.float32)]).model
    dialect = next(entry for entry in load_profile("t4").tensorrt if entry.product == "tensorrt-rtx")
    findings = lint_graph(half, dialect, sm=sm)
    raise_on_errors(findings)
    assert "strong-precision" not in {finding.rule for finding in findings}
    assert check_and_build(to_bytes(half), sm).engine


UNARY = ("Relu", "Sigmoid", "Tanh", "Neg", "Identity")


@settings(max_examples=30)
@given(st.lists(st.sampled_from(UNARY), min_size=1, max_size=6), st.data())
def test_any_choice_of_float_nodes_gives_a_valid_graph_with_the_same_function(ops: list[str], data: Any) -> None:
    """Each node also reads the network's input: layers of both types read the same tensors."""
    nodes, last = [], "x"
    for index, op_type in enumerate(ops):
        nodes.append(node(op_type, [last], [f"u{index}"], f"unary{index}"))
        last = "y" if index == len(ops) - 1 else f"t{index}"
        nodes.append(node("Add", [f"u{index}", "x"], [last], f"add{index}"))
    model = graph(nodes, shape=(2, 3))
    floats = data.draw(st.sets(st.integers(0, len(nodes) - 1)))
    half = to_half(model, [entry for index, entry in enumerate(model.graph) if index in floats])
    assert find_fault(half) is None
    for index, entry in enumerate(nodes):
        layer = _layer(half, entry.name)
        expected = ir.DataType.FLOAT if index in floats else ir.DataType.FLOAT16
        assert {value.dtype for value in (*given_inputs(layer), *layer.outputs)} == {expected}
    assert [value.name for value in half.graph.outputs] == ["y"]
    sample = RNG.normal(size=(2, 3)).astype(np.float32)
    np.testing.assert_allclose(_run(half, sample), _run(model, sample), rtol=0.02, atol=0.02)
