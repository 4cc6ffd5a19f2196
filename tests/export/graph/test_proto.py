"""Graphs come in with types and shapes, are checked without their weights, and go out unchanged."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeact.errors import ConversionError
from edgeact.export.graph.proto import find_fault, from_bytes, from_proto, infer_anew, to_bytes
from edgeact.export.graph.values import dims_of
from tests.export.graph.exported import exported
from tests.export.graph.graphs import Conv, conv, graph, graph_proto, node
from tests.messages import names


@pytest.mark.parametrize("name", ["msf-r3d-fsam", "cnn3d-gate"])
def test_an_exported_graph_goes_in_and_out_unchanged(name: str) -> None:
    data = to_bytes(exported(name).graph)
    assert to_bytes(from_bytes(data)) == data


def test_types_and_shapes_are_inferred_if_they_are_missing() -> None:
    model = conv(Conv(quantized=True))
    assert {(value.name, value.dtype, dims_of(value)) for layer in model.graph for value in layer.outputs} == {
        ("x_int8", ir.DataType.INT8, (1, 16, 4, 8, 8)),
        ("x_back", ir.DataType.FLOAT, (1, 16, 4, 8, 8)),
        ("w", ir.DataType.FLOAT, (16, 16, 3, 3, 3)),
        ("y", ir.DataType.FLOAT, (1, 16, 4, 8, 8)),
    }


def test_a_change_is_inferred_anew() -> None:
    model = graph([node("Relu", ["x"], ["a"]), node("Transpose", ["a"], ["y"], perm=[1, 0])], shape=(2, 3))
    rectified = model.graph[0].outputs[0]
    rectified.shape = ir.Shape((5, 5))
    infer_anew(model)
    assert dims_of(rectified) == (2, 3)


def test_large_constants_remain_in_the_graph() -> None:
    model = conv(Conv(64, 64))
    before = to_bytes(model)
    infer_anew(model)
    assert find_fault(model) is None
    assert list(model.graph.initializers) == ["w"]
    assert len(model.graph.inputs) == 1
    assert to_bytes(model) == before


def test_a_graph_of_contradictory_shapes_is_refused() -> None:
    model = graph([node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((4, 5), np.float32)}, shape=(2, 4))
    model.graph.inputs[0].shape = ir.Shape((2, 3))
    assert "Incompatible dimensions" in (find_fault(model) or "")
    with pytest.raises(ConversionError, check=names("not valid ONNX")):
        infer_anew(model)


def test_a_graph_that_defines_a_tensor_twice_is_refused() -> None:
    proto = graph_proto([node("Relu", ["x"], ["y"])])
    proto.graph.node.append(onnx.helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(ConversionError, check=names("not valid ONNX")):
        from_proto(proto)
