"""Constant weights behind a QuantizeLinear, stored as the int8 numbers they become.

OpenVINO and ONNX Runtime read a DequantizeLinear of an int8 constant as well as a Q/DQ pair of a float one, and the
file is a quarter of the size. TensorRT's dialects get the pair, which every release reads.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeact.export.graph.edit import add_constant, remove_unused
from edgeact.export.graph.values import name_of, operand, required_array

__all__ = ["fold_weights"]


def fold_weights(model: ir.Model) -> ir.Model:
    """A copy of `model` without the QuantizeLinear nodes of constants; the function is bit for bit the same."""
    folded = model.clone()
    for node in list(folded.graph):
        if node.op_type == "QuantizeLinear" and operand(node, 0).is_initializer():
            values, scale = (required_array(operand(node, index)) for index in (0, 1))
            integers = _int8(values, scale, node.attributes.get_int("axis", 1))
            constant = add_constant(folded.graph, name_of(node.outputs[0]), integers)
            node.outputs[0].replace_all_uses_with(constant)
    remove_unused(folded)
    return folded


def _int8(values: np.ndarray, scale: np.ndarray, axis: int) -> np.ndarray:
    """ONNX QuantizeLinear to int8 with zero point 0: round half to even, saturate."""
    if scale.ndim:
        scale = scale.reshape([-1 if index == axis else 1 for index in range(values.ndim)])
    rounded: np.ndarray = np.clip(np.rint(values / scale), -128, 127).astype(np.int8)
    return rounded
