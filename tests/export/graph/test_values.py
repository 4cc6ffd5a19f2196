"""Look-ups: constants wherever they stand, shapes as far as they are known, tensors through Q/DQ."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from edgeact.errors import ConversionError
from edgeact.export.graph.values import (
    constant_array,
    describe_dims,
    dims_of,
    given_inputs,
    is_constant,
    is_dequantized,
    node_label,
    only_consumer,
    operand,
    opset_of,
    optional_operand,
    quantized_source,
    reduction_axes,
    schema_of,
    static_dims,
    weight_dims,
)
from tests.export.graph.graphs import Conv, conv, graph, node
from tests.messages import names


def _layers(model: ir.Model) -> dict[str | None, ir.Node]:
    return {entry.name: entry for entry in model.graph}


@pytest.mark.parametrize(
    "attributes", [{"value_float": 2.0}, {"value": numpy_helper.from_array(np.full((), 2.0, np.float32))}]
)
def test_a_constant_node_is_a_constant(attributes: dict[str, Any]) -> None:
    nodes = [node("Constant", [], ["c"], **attributes), node("Mul", ["x", "c"], ["y"])]
    product = _layers(graph(nodes))["the_Mul"]
    assert constant_array(operand(product, 1)) == 2.0
    assert not is_constant(operand(product, 0))
    assert not is_constant(None)


def test_shapes_are_given_as_far_as_they_are_known() -> None:
    value = graph([node("Relu", ["x"], ["y"])], shape=("n", 3)).graph.inputs[0]
    assert dims_of(value) == (None, 3)
    assert static_dims(value) is None
    assert describe_dims(value) == "(?, 3)"
    assert describe_dims(ir.val("y")) == "no shape"


def test_weights_and_activations_are_found_through_qdq() -> None:
    layer = _layers(conv(Conv(quantized=True)))["the_conv"]
    assert weight_dims(layer) == (16, 16, 3, 3, 3)
    assert quantized_source(operand(layer, 0)).name == "x"
    assert [is_dequantized(value) for value in layer.inputs] == [True, True]
    assert weight_dims(_layers(conv(Conv()))["the_conv"]) == (16, 16, 3, 3, 3)


def test_inputs_may_be_omitted() -> None:
    model = graph([node("Clip", ["x", "", "high"], ["y"])], {"high": np.float32(6)})
    (clip,) = model.graph
    assert [value.name for value in given_inputs(clip)] == ["x", "high"]
    assert optional_operand(clip, 1) is None
    assert optional_operand(clip, 3) is None
    with pytest.raises(ConversionError, check=names("'the_Clip' (Clip): expected an input 1")):
        operand(clip, 1)


def test_a_consumer_counts_only_if_it_is_alone() -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Mul", ["a", "a"], ["b"]), node("Exp", ["b"], ["y"])]
    model = graph(nodes)
    rectified, squared, result = (entry.outputs[0] for entry in model.graph)
    assert only_consumer(rectified, "Mul") is None  # read twice
    assert only_consumer(squared, "Exp") is model.graph[2]
    assert only_consumer(squared, "Relu") is None
    assert only_consumer(result, "Exp") is None


@pytest.mark.parametrize("opset", [17, 18])
def test_axes_may_be_an_attribute_or_a_constant(opset: int) -> None:
    stated: dict[str, Any] = {"axes": [-1, 1]} if opset == 17 else {}
    inputs = ["x"] if opset == 17 else ["x", "axes"]
    nodes = [node("ReduceMean", inputs, ["y"], **stated)]
    (mean,) = graph(nodes, {"axes": np.array([-1, 1])}, opset=opset).graph
    assert reduction_axes(mean) == (1, 4)


def test_a_node_without_a_name_is_labelled_by_its_output() -> None:
    (relu,) = graph([node("Relu", ["x"], ["y"])]).graph
    relu.name = ""
    assert node_label(relu) == "Relu -> y"


def test_operators_are_looked_up_in_the_graph_s_opset() -> None:
    model = graph([node("Relu", ["x"], ["y"])], opset=13)
    assert opset_of(model) == 13
    assert schema_of(model.graph[0], 13) is not None
    assert schema_of(ir.node("Gelu", [], name="gelu"), 13) is None
    del model.opset_imports[""]
    with pytest.raises(ConversionError, check=names("no ONNX opset")):
        opset_of(model)
