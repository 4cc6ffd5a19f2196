"""Store constant weights as int8 values instead of float values behind a QuantizeLinear.

OpenVINO and ONNX Runtime read a DequantizeLinear of an int8 constant as well as a Q/DQ pair of a float constant, and
the file has a quarter of the size. Graphs for TensorRT keep the pair, which every release reads.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeact.export.graph.edit import add_constant, remove_unused
from edgeact.export.graph.values import name_of, operand, required_array

__all__ = ["fold_weights"]


def fold_weights(model: ir.Model) -> ir.Model:
    """Return a copy of `model` without QuantizeLinear nodes of constants; its outputs are bit-identical."""
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
    """Quantize to int8 with zero point 0 as ONNX QuantizeLinear does: round half to even, saturate."""
    if scale.ndim:
        scale = scale.reshape([-1 if index == axis else 1 for index in range(values.ndim)])
    integers: np.ndarray = np.clip(np.rint(values / scale), -128, 127).astype(np.int8)
    return integers
