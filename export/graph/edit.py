"""Changes of an `onnx_ir` graph that several rewrites make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

__all__ = ["add_constant", "remove_unused", "set_inputs", "set_ints"]


def add_constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """Add `array` to the graph as a new initializer and return it. Raises ValueError if the name is taken."""
    tensor = ir.tensor(np.asarray(array, order="C"), name=name)
    value = ir.val(name, tensor.dtype, tensor.shape.numpy(), const_value=tensor)
    graph.register_initializer(value)
    return value


def set_inputs(node: ir.Node, values: Sequence[ir.Value | None]) -> None:
    """Replace all inputs of `node`."""
    node.resize_inputs(len(values))
    for index, value in enumerate(values):
        node.replace_input_with(index, value)


def set_ints(node: ir.Node, name: str, values: Sequence[int]) -> None:
    """Give `node` an attribute of integers, in the place of an attribute of the same name."""
    node.attributes.pop(name, None)
    node.attributes.add(ir.AttrInt64s(name, values))


def remove_unused(model: ir.Model) -> None:
    """Remove nodes and initializers that no output of the model depends on, in place."""
    RemoveUnusedNodesPass()(model)
