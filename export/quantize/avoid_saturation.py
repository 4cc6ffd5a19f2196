"""Rewrite a CPU's INT8 graph so that no kernel saturates on an x86 processor without VNNI.

Such a processor multiplies unsigned 8-bit activations a with signed 8-bit weights w by `vpmaddubsw`, which adds two
products in saturating int16. A sum is exact for all values of the operands if and only if 2 * max(a) * max|w| is within
int16. Signed activations are computed as a + 128, whatever their range is. Hence, for activations that are

* never negative: uint8 with zero point 0, clipped to what int8 would hold, 2 * 127 * 127 = 32258. The scale is that of
  int8 already; without the clip a value beyond the calibrated range is stored as up to 255, and
  2 * 255 * 127 saturates. OpenVINO fuses the clip with the layer before it, like the ReLU that it takes the place of;
* signed: uint8 with zero point 128, and weights of 7 bits, 2 * 255 * 64 = 32640. The zero point states what kernels do
  anyway, and matters on every processor: OpenVINO 2026.4 quantizes the branches of a Split a second time, with another
  scale, if any tensor of the graph is int8;
* signed, in a depthwise convolution: the same with weights of 8 bits, since there is one product to a channel and tap.

Processors with VNNI or AMX, and ONNX Runtime in its exact mode, add in int32 and lose only the eighth bit of the
weights of layers with signed inputs: usually of the first layer alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edgeact.calibration.ranges import INT8_MAX
from edgeact.export.graph.edit import add_constant, remove_unused, set_inputs
from edgeact.export.graph.values import (
    constant_array,
    is_constant,
    name_of,
    only_consumer,
    operand,
    weight_dims,
)
from edgeact.export.quantize.activation_ranges import QUANTIZED_OPS
from edgeact.export.quantize.qdq_placement import MOVING_OPS

__all__ = ["UNSIGNED_ZERO_POINT", "WEIGHT_MAX_7_BITS", "avoid_saturation"]

WEIGHT_MAX_7_BITS = 64
"""Largest weight that 255 may be multiplied by, twice, within int16."""
UNSIGNED_ZERO_POINT = 128
"""Zero point of a signed activation that is stored in uint8."""


def avoid_saturation(placed: ir.Model) -> ir.Model:
    """Return a copy of `placed` with activations and weights as stated in the module.

    Its activations have Q/DQ pairs as `qdq_placement` inserts them, its weights are float constants behind a
    QuantizeLinear.
    """
    model = placed.clone()
    quantizers = [node for node in model.graph if _quantizes_activation(node)]
    layers = [node for node in model.graph if node.op_type in QUANTIZED_OPS and _adds_products(node)]
    signed = [layer for layer in layers if any(_is_signed(node) for node in _quantizers_of(operand(layer, 0)))]
    for weight in dict.fromkeys(weight for layer in signed for weight in _quantizers_of(operand(layer, 1))):
        _reduce_weights(model.graph, weight)
    for quantizer in quantizers:
        if _is_signed(quantizer):
            _store_in_uint8(model.graph, quantizer)
        else:
            _clip(model.graph, quantizer)
    remove_unused(model)
    return model


def _quantizes_activation(node: ir.Node) -> bool:
    return node.op_type == "QuantizeLinear" and not is_constant(operand(node, 0))


def _is_signed(quantizer: ir.Node) -> bool:
    return operand(quantizer, 2).dtype == ir.DataType.INT8


def _adds_products(layer: ir.Node) -> bool:
    """Return whether the layer adds products of several channels, as all but depthwise convolutions do."""
    dims = weight_dims(layer)
    return layer.op_type != "Conv" or dims is None or dims[1] > 1


def _quantizers_of(value: ir.Value) -> Iterator[ir.Node]:
    """Yield the QuantizeLinear nodes whose integers `value` holds, behind operators that only move values."""
    node = value.producer()
    if node is None:
        return
    if node.op_type == "QuantizeLinear":
        yield node
    elif node.op_type in ("DequantizeLinear", *MOVING_OPS):
        for source in node.inputs if node.op_type == "Concat" else node.inputs[:1]:
            if source is not None:
                yield from _quantizers_of(source)


def _reduce_weights(graph: ir.Graph, quantizer: ir.Node) -> None:
    """Give weights a scale at which the largest of each channel becomes WEIGHT_MAX_7_BITS."""
    old = operand(quantizer, 1)
    scale = constant_array(old)
    assert scale is not None
    reduced = scale * np.float32(INT8_MAX / WEIGHT_MAX_7_BITS)
    _replace_in_pair(quantizer, 1, add_constant(graph, f"{name_of(old)}/7_bits", reduced))


def _store_in_uint8(graph: ir.Graph, quantizer: ir.Node) -> None:
    """Store a signed activation with a zero point in the middle of uint8: the same integers, plus 128."""
    name = f"{name_of(operand(quantizer, 2))}/uint8"
    _replace_in_pair(quantizer, 2, add_constant(graph, name, np.array(UNSIGNED_ZERO_POINT, np.uint8)))
    quantizer.outputs[0].type = ir.TensorType(ir.DataType.UINT8)  # a clone shares its type with the original


def _replace_in_pair(quantizer: ir.Node, index: int, value: ir.Value) -> None:
    for node in (quantizer, *quantizer.outputs[0].consumers()):
        node.replace_input_with(index, value)


def _clip(graph: ir.Graph, quantizer: ir.Node) -> None:
    """Limit an activation that is never negative to the range that its scale has in int8."""
    value, scale = operand(quantizer, 0), constant_array(operand(quantizer, 1))
    assert scale is not None
    bounds = [
        add_constant(graph, f"{name_of(value)}/clip_min", np.array(0, np.float32)),
        add_constant(graph, f"{name_of(value)}/clip_max", np.array(scale * np.float32(INT8_MAX), np.float32)),
    ]
    relu = value.producer()
    if relu is not None and relu.op_type == "Relu" and only_consumer(value, "QuantizeLinear"):
        relu.op_type = "Clip"
        set_inputs(relu, [operand(relu, 0), *bounds])
        return
    clip = ir.node("Clip", [value, *bounds], name=f"{name_of(value)}/clip")
    clip.outputs[0].name = f"{name_of(value)}/clipped"
    clip.outputs[0].type, clip.outputs[0].shape = value.type, value.shape
    graph.insert_before(quantizer, clip)
    quantizer.replace_input_with(0, clip.outputs[0])
