"""An ONNX graph with the look-ups that checks and rewrites need: producers, constants, types, shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from edgeact.errors import ConversionError

__all__ = ["GraphView", "attribute", "node_label", "view"]

_DEFAULT_DOMAINS = ("", "ai.onnx")
_PASS_THROUGH = ("QuantizeLinear", "DequantizeLinear", "Cast", "Identity")


@dataclass(frozen=True)
class GraphView:
    """Read-only look-ups into one model; the model must not be changed while a view of it is in use."""

    model: onnx.ModelProto
    opset: int
    producers: Mapping[str, NodeProto]
    constants: Mapping[str, TensorProto]
    types: Mapping[str, int]
    shapes: Mapping[str, tuple[int | None, ...]]

    @property
    def nodes(self) -> Iterator[NodeProto]:
        """The nodes of the main graph in their order."""
        return iter(self.model.graph.node)

    def constant(self, name: str) -> np.ndarray | None:
        """Value of a constant tensor, None where it is computed or there is no such tensor."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def schema(self, node: NodeProto) -> onnx.defs.OpSchema | None:
        """ONNX's definition of the node's operator in the graph's opset, None where there is none."""
        try:
            return onnx.defs.get_schema(node.op_type, self.opset, "" if node.domain == "ai.onnx" else node.domain)
        except onnx.defs.SchemaError:
            return None

    def source(self, name: str) -> str:
        """The tensor that `name` restates: back through Q/DQ, Cast and Identity."""
        while (node := self.producers.get(name)) is not None and node.op_type in _PASS_THROUGH:
            name = node.input[0]
        return name

    def weight_shape(self, node: NodeProto) -> tuple[int, ...] | None:
        """Shape of a convolution's weight, None where the weight is computed."""
        tensor = self.constants.get(self.source(node.input[1]))
        return None if tensor is None else tuple(tensor.dims)

    def is_dequantized(self, name: str) -> bool:
        """Whether a DequantizeLinear makes this tensor."""
        node = self.producers.get(name)
        return node is not None and node.op_type == "DequantizeLinear"


def view(model: onnx.ModelProto) -> GraphView:
    """Look-ups into `model`; types and shapes are inferred, and missing where they cannot be.

    Raises ConversionError for a model whose operators belong to no opset it imports.
    """
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except onnx.shape_inference.InferenceError as error:
        raise ConversionError(f"the graph is not valid ONNX: {error}; export it again") from error
    types: dict[str, int] = {tensor.name: tensor.data_type for tensor in graph.initializer}
    shapes: dict[str, tuple[int | None, ...]] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor_type = value.type.tensor_type
        types[value.name] = tensor_type.elem_type
        if tensor_type.HasField("shape"):
            shapes[value.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else None for dim in tensor_type.shape.dim
            )
    return GraphView(
        model=model,
        opset=_opset(model),
        producers={name: node for node in model.graph.node for name in node.output if name},
        constants=_constants(model.graph),
        types=types,
        shapes=shapes,
    )


def node_label(node: NodeProto) -> str:
    """What a message calls the node: its name, or its first output where it has none."""
    return node.name or f"{node.op_type} -> {node.output[0]}"


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Value of an attribute, or `default` where the node does not state it."""
    found: AttributeProto | None = next((item for item in node.attribute if item.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def _opset(model: onnx.ModelProto) -> int:
    for entry in model.opset_import:
        if entry.domain in _DEFAULT_DOMAINS:
            return int(entry.version)
    raise ConversionError("the graph states no ONNX opset; expected the domain 'ai.onnx' in its opset imports")


def _constants(graph: onnx.GraphProto) -> dict[str, TensorProto]:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and isinstance(value := attribute(node, "value", None), TensorProto):
            constants[node.output[0]] = value
    return constants
