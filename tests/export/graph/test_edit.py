"""Edits leave a consistent graph: names stay unique, what no output depends on goes, attributes are replaced."""

from __future__ import annotations

import numpy as np
import pytest

from edgeact.export.graph.edit import add_constant, remove_unused, set_inputs, set_ints
from edgeact.export.graph.values import constant_array, dims_of
from tests.export.graph.graphs import graph, node
from tests.messages import names


def test_unused_nodes_and_constants_are_removed() -> None:
    nodes = [node("Add", ["x", "used"], ["y"]), node("Mul", ["x", "unused"], ["z"])]
    model = graph(nodes, {"used": np.float32(1), "unused": np.float32(2)})
    remove_unused(model)
    assert list(model.graph.initializers) == ["used"]
    assert [entry.op_type for entry in model.graph] == ["Add"]


def test_a_constant_is_added_once() -> None:
    model = graph([node("Relu", ["x"], ["y"])])
    value = add_constant(model.graph, "c", np.arange(6, dtype=np.float32).reshape(2, 3).T)
    assert dims_of(value) == (3, 2)
    np.testing.assert_array_equal(constant_array(value), [[0, 3], [1, 4], [2, 5]])
    assert dims_of(add_constant(model.graph, "scalar", np.array(1.0))) == ()
    with pytest.raises(ValueError, check=names("already registered")):
        add_constant(model.graph, "c", np.zeros(1))


def test_inputs_and_attributes_are_replaced() -> None:
    model = graph([node("Concat", ["x", "x"], ["y"], axis=1)])
    (concat,) = model.graph
    source = model.graph.inputs[0]
    set_inputs(concat, [source, source, source])
    assert list(concat.inputs) == [source] * 3
    set_inputs(concat, [source])
    assert source.uses() == ((concat, 0),)
    set_ints(concat, "pads", [1, 2])
    set_ints(concat, "pads", (3,))
    assert concat.attributes.get_ints("pads") == (3,)
