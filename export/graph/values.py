"""Look-ups in an `onnx_ir` graph that its classes have no method for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir

from edgeact.errors import ConversionError

__all__ = [
    "constant_array",
    "describe_dims",
    "dims_of",
    "given_inputs",
    "is_constant",
    "is_dequantized",
    "name_of",
    "node_label",
    "only_consumer",
    "operand",
    "opset_of",
    "optional_operand",
    "quantized_source",
    "reduction_axes",
    "required_array",
    "schema_of",
    "static_dims",
    "weight_dims",
    "weight_names",
]

_PRECISION_OPS = ("QuantizeLinear", "DequantizeLinear", "Cast", "Identity")


def operand(node: ir.Node, index: int) -> ir.Value:
    """Return a required input of `node`.

    Raises ConversionError if the node has no such input, so that the graph is not valid ONNX.
    """
    value = optional_operand(node, index)
    if value is None:
        raise ConversionError(
            f"layer '{node_label(node)}' ({node.op_type}): expected an input {index}, got {len(node.inputs)} inputs; "
            "export the model again"
        )
    return value


def optional_operand(node: ir.Node, index: int) -> ir.Value | None:
    """Return an input of `node`, None if it is omitted."""
    return node.inputs[index] if index < len(node.inputs) else None


def given_inputs(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the inputs of `node` in order, omitted optional inputs left out."""
    return (value for value in node.inputs if value is not None)


def name_of(item: ir.Value | ir.Node) -> str:
    """Return the name of a tensor or node, empty for an omitted optional output."""
    return item.name or ""


def node_label(node: ir.Node) -> str:
    """Return the label of `node` in messages: its name, or its operator and first output if it has no name."""
    return node.name or f"{node.op_type} -> {name_of(node.outputs[0])}"


def opset_of(model: ir.Model) -> int:
    """Return the version of the ONNX operator set that `model` imports.

    Raises ConversionError if the model imports none.
    """
    version = model.opset_imports.get("")
    if version is None:
        raise ConversionError("the graph states no ONNX opset; expected the domain 'ai.onnx' in its opset imports")
    return version


def schema_of(node: ir.Node, opset: int) -> onnx.defs.OpSchema | None:
    """Return ONNX's definition of the node's operator in `opset`, None if ONNX does not define it."""
    try:
        return onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return None


def dims_of(value: ir.Value) -> tuple[int | None, ...] | None:
    """Return the sizes of a tensor's axes, None for an axis of unknown size; None if the rank is unknown."""
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def static_dims(value: ir.Value) -> tuple[int, ...] | None:
    """Return the sizes of a tensor's axes, None if any is unknown."""
    return value.shape.numpy() if value.shape is not None and value.shape.is_static() else None


def describe_dims(value: ir.Value) -> str:
    """Return the sizes of a tensor's axes as text, '(?, 3, 8, 112, 112)' with an unknown batch."""
    dims = dims_of(value)
    return "no shape" if dims is None else f"({', '.join('?' if size is None else str(size) for size in dims)})"


def is_constant(value: ir.Value | None) -> bool:
    """Return whether a tensor is an initializer or the output of a Constant node."""
    return value is not None and ir.convenience.get_const_tensor(value) is not None


def constant_array(value: ir.Value | None) -> np.ndarray | None:
    """Return the values of a constant tensor, None if the tensor is computed. The array must not be changed."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def required_array(value: ir.Value | None) -> np.ndarray:
    """Return the values of a constant tensor. The array must not be changed.

    Raises ConversionError if the tensor is computed.
    """
    array = constant_array(value)
    if array is None:
        name = "none" if value is None else f"the computed tensor '{name_of(value)}'"
        raise ConversionError(f"expected a constant tensor, got {name}; fold constants before the conversion")
    return array


def quantized_source(value: ir.Value) -> ir.Value:
    """Return the tensor that `value` restates in another precision: back through Q/DQ, Cast and Identity."""
    while (node := value.producer()) is not None and node.op_type in _PRECISION_OPS:
        value = operand(node, 0)
    return value


def is_dequantized(value: ir.Value | None) -> bool:
    """Return whether `value` is the output of a DequantizeLinear."""
    node = None if value is None else value.producer()
    return node is not None and node.op_type == "DequantizeLinear"


def weight_dims(conv: ir.Node) -> tuple[int, ...] | None:
    """Return the shape of a convolution's weight through Q/DQ and casts, None if the weight is computed."""
    tensor = ir.convenience.get_const_tensor(quantized_source(operand(conv, 1)))
    return None if tensor is None else tuple(tensor.shape.numpy())


def only_consumer(value: ir.Value, op_type: str) -> ir.Node | None:
    """Return the only reader of `value` if it is of type `op_type` and reads it once, else None."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    ((node, _),) = uses
    return node if node.op_type == op_type else None


def weight_names(model: ir.Model) -> dict[str, str]:
    """Return the name of the weight of every layer whose second input is an initializer, by the layer's name."""
    weights = {name_of(node): optional_operand(node, 1) for node in model.graph}
    return {layer: name_of(value) for layer, value in weights.items() if value is not None and value.is_initializer()}


def reduction_axes(node: ir.Node) -> tuple[int, ...] | None:
    """Return the axes that a reduction reduces, counted from 0, ascending; None if they or the rank are unknown."""
    axes = node.attributes.get_ints("axes")
    if axes is None and len(node.inputs) > 1:
        array = constant_array(node.inputs[1])
        axes = None if array is None else array.tolist()
    dims = dims_of(operand(node, 0))
    return None if axes is None or dims is None else tuple(sorted(axis % len(dims) for axis in axes))
