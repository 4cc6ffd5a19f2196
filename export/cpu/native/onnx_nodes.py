"""Weights, biases, attributes and shapes of ONNX nodes, in the layout of the native engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeact.export.cpu.native.refusals import UnmetRequirement
from edgeact.export.graph.values import constant_array, is_dequantized, name_of, operand, optional_operand
from edgeact.runtime.native.program import Size3, Size4

__all__ = [
    "bias",
    "channels_last",
    "dilated",
    "float_weights",
    "pads",
    "size4",
    "strides",
    "triple",
    "ungrouped",
    "weight_scale",
    "weights",
]

_Number = TypeVar("_Number", bound=np.generic)


def weights(node: ir.Node) -> npt.NDArray[np.generic]:
    """Return the weights in ONNX order: int8 behind a DequantizeLinear, else float."""
    value = operand(node, 1)
    dequantize = value.producer()
    if dequantize is not None and is_dequantized(value):
        value = operand(dequantize, 0)
    values = constant_array(value)
    if values is None:
        raise UnmetRequirement("constant-weights", f"the computed tensor '{name_of(value)}'")
    return values


def dilated(values: npt.NDArray[_Number], node: ir.Node) -> npt.NDArray[_Number]:
    """Return ONNX weights (O, I, kT, kH, kW) with the node's dilations as taps of weight 0 between the others."""
    steps = triple(node.attributes.get_ints("dilations", (1, 1, 1)))
    if steps == (1, 1, 1):
        return values
    sides = [(side - 1) * step + 1 for side, step in zip(values.shape[2:], steps, strict=True)]
    spread = np.zeros((*values.shape[:2], *sides), values.dtype)
    spread[:, :, :: steps[0], :: steps[1], :: steps[2]] = values
    return spread


def ungrouped(values: npt.NDArray[_Number], groups: int) -> npt.NDArray[_Number]:
    """Return weights with output channels first and input channels last as those of one group: 0 between groups."""
    if groups == 1:
        return values
    outputs, inputs = len(values) // groups, values.shape[-1]
    whole = np.zeros((*values.shape[:-1], inputs * groups), values.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        whole[rows, ..., group * inputs : (group + 1) * inputs] = values[rows]
    return whole


def weight_scale(node: ir.Node, outputs: int) -> npt.NDArray[np.float32]:
    """Return the quantization scale of each output's INT8 weights, float32 (outputs,)."""
    dequantize = operand(node, 1).producer()
    scale = None if dequantize is None else constant_array(operand(dequantize, 1))
    if scale is None:
        raise UnmetRequirement("constant-weights", f"the computed scale of '{name_of(operand(node, 1))}'")
    return np.broadcast_to(scale.reshape(-1), (outputs,)).astype(np.float32)


def bias(node: ir.Node, outputs: int) -> npt.NDArray[np.float32]:
    """Return the bias, float32 (outputs,); zeros if the node has none."""
    value = optional_operand(node, 2)
    if value is None:
        return np.zeros(outputs, np.float32)
    values = constant_array(value)
    if values is None or values.dtype != np.float32:
        got = f"the computed tensor '{name_of(value)}'" if values is None else str(values.dtype)
        raise UnmetRequirement("constant-bias", got)
    return values


def float_weights(node: ir.Node) -> npt.NDArray[np.float32]:
    """Return the weights in float32 and ONNX order, dequantized if they are INT8."""
    values = weights(node)
    if values.dtype == np.int8:
        scale = weight_scale(node, len(values)).reshape(-1, *[1] * (values.ndim - 1))
        return (values.astype(np.float32) * scale).astype(np.float32)
    return values.astype(np.float32)


def size4(name: str, shape: Sequence[int]) -> Size4:
    """Return an ONNX shape as (T, H, W, C).

    The shape is (1, C, T, H, W), (1, C) with any trailing axes of size 1, (1, 1, C) or (C,).
    """
    if len(shape) == 5 and shape[0] == 1:
        return shape[2], shape[3], shape[4], shape[1]
    if len(shape) <= 1:
        return 1, 1, 1, shape[0] if shape else 1
    if shape[0] == 1 and set(shape[2:]) <= {1}:
        return 1, 1, 1, shape[1]
    if len(shape) == 3 and shape[:2] == (1, 1):
        return 1, 1, 1, shape[2]
    raise UnmetRequirement("tensor-shape", f"{tuple(shape)} of '{name}'")


def channels_last(constant: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return a constant (1, C, T, H, W) as float32 (T, H, W, C), any other flattened."""
    values = constant.astype(np.float32)
    return np.ascontiguousarray(values[0].transpose(1, 2, 3, 0) if values.ndim == 5 else values.reshape(-1))


def strides(node: ir.Node) -> Size3:
    """Return the node's strides, by default 1."""
    return triple(node.attributes.get_ints("strides", (1, 1, 1)))


def pads(node: ir.Node) -> tuple[int, ...]:
    """Return the node's padding, three begins and three ends, by default 0."""
    return tuple(node.attributes.get_ints("pads", (0,) * 6))


def triple(values: Iterable[int | None]) -> Size3:
    """Return exactly three sizes; None becomes 0."""
    first, second, third = (int(value or 0) for value in values)
    return first, second, third
