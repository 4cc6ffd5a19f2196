"""Reading the nodes of an INT8 graph: their weights and their sizes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from onnx import NodeProto

from edgeact.errors import ConversionError
from edgeact.export.graph.view import GraphView
from edgeact.runtime.native.program import Size3, Size4

__all__ = [
    "bias_of",
    "channels_last",
    "real_weights",
    "size4",
    "three",
    "weight_scale",
    "weights_of",
]


def weights_of(graph: GraphView, node: NodeProto) -> np.ndarray:
    """int8 where they are behind a DequantizeLinear, else float."""
    maker = graph.producers.get(node.input[1])
    name = maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else node.input[1]
    weights = graph.constant(name)
    if weights is None:
        raise ConversionError("it needs constant weights")
    return weights


def weight_scale(graph: GraphView, node: NodeProto, outputs: int) -> np.ndarray:
    """Steps of its INT8 weights, float32 (outputs,)."""
    scale = graph.constant(graph.producers[node.input[1]].input[1])
    assert scale is not None
    return np.broadcast_to(scale.reshape(-1), (outputs,)).astype(np.float32)


def bias_of(graph: GraphView, node: NodeProto, outputs: int) -> np.ndarray:
    """float32 (outputs,), zeros where it has none."""
    if len(node.input) < 3 or not node.input[2]:
        return np.zeros(outputs, np.float32)
    bias = graph.constant(node.input[2])
    if bias is None or bias.dtype != np.float32:
        raise ConversionError("it needs a constant bias in float")
    return bias


def real_weights(graph: GraphView, node: NodeProto) -> np.ndarray:
    """Its weights in float32, in the order in which ONNX has them."""
    weights = weights_of(graph, node)
    if weights.dtype == np.int8:
        scale = weight_scale(graph, node, len(weights)).reshape(-1, *[1] * (weights.ndim - 1))
        weights = weights.astype(np.float32) * scale
    return weights.astype(np.float32)


def size4(name: str, shape: tuple[int, ...]) -> Size4:
    """ONNX's (1, C, T, H, W), or (1, C) with any axes of size 1 behind it, or (C,), as (T, H, W, C)."""
    if len(shape) == 5 and shape[0] == 1:
        return shape[2], shape[3], shape[4], shape[1]
    if len(shape) <= 1:
        return 1, 1, 1, shape[0] if shape else 1
    if shape[0] == 1 and set(shape[2:]) <= {1}:
        return 1, 1, 1, shape[1]
    raise ConversionError(f"the native engine has features and vectors only, '{name}' is {shape}")


def channels_last(constant: np.ndarray) -> np.ndarray:
    """float32 (T, H, W, C) of a constant (1, C, T, H, W), else flat."""
    values = constant.astype(np.float32)
    return np.ascontiguousarray(values[0].transpose(1, 2, 3, 0) if values.ndim == 5 else values.reshape(-1))


def three(values: Iterable[int | None]) -> Size3:
    """Exactly three sizes; what is missing in one is 0."""
    first, second, third = (int(value or 0) for value in values)
    return first, second, third
