"""A graph runs as it is stated, and a graph that cannot run is refused with ONNX Runtime's reason."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeact.errors import ConversionError
from edgeact.export.graph.run import GraphRunner
from tests.export.graph.graphs import graph, node
from tests.messages import names


def test_outputs_come_in_the_order_asked_for() -> None:
    model = graph([node("Neg", ["x"], ["a"]), node("Exp", ["a"], ["y"])], shape=(2,))
    model.graph.outputs.append(model.graph[0].outputs[0])
    x = np.array([0.0, 1.0], np.float32)
    exponential, negative = GraphRunner(model, threads=1).run(["y", "a"], {"x": x})
    np.testing.assert_array_equal(negative, -x)
    np.testing.assert_allclose(exponential, np.exp(-x))


def test_an_operator_without_a_kernel_is_refused() -> None:
    model = graph([node("Relu", ["x"], ["y"])])
    model.graph[0].op_type = "NoSuchOperator"
    with pytest.raises(ConversionError, check=names("ONNX Runtime cannot run the graph:", "NoSuchOperator")):
        GraphRunner(model)


def test_the_model_may_be_changed_afterwards() -> None:
    model = graph([node("Relu", ["x"], ["y"])], shape=(1,))
    runner = GraphRunner(model)
    model.graph.outputs[0].name = "z"
    assert isinstance(model, ir.Model)
    np.testing.assert_array_equal(runner.run(["y"], {"x": np.array([-1.0], np.float32)})[0], [0.0])
