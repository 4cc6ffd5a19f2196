"""Constant weights behind a QuantizeLinear, stored as the int8 numbers they become.

OpenVINO and ONNX Runtime read a DequantizeLinear of an int8 constant as well as a Q/DQ pair of a float one, and the
file is a quarter of the size. TensorRT's dialects get the pair, which every release reads.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from edgeact.export.graph.torch_to_onnx import drop_unused_initializers

__all__ = ["fold_weights"]


def fold_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` without the QuantizeLinear nodes of constants; the function is bit for bit the same."""
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] not in constants:
            kept.append(node)
            continue
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        values, scale = (numpy_helper.to_array(constants[name]) for name in node.input[:2])
        graph.initializer.append(numpy_helper.from_array(_int8(values, scale, axis), node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    drop_unused_initializers(folded)
    return folded


def _int8(values: np.ndarray, scale: np.ndarray, axis: int) -> np.ndarray:
    """ONNX QuantizeLinear to int8 with zero point 0: round half to even, saturate."""
    if scale.ndim:
        scale = scale.reshape([-1 if index == axis else 1 for index in range(values.ndim)])
    rounded: np.ndarray = np.clip(np.rint(values / scale), -128, 127).astype(np.int8)
    return rounded
