"""The border between `onnx_ir` graphs, in which export/ works, and ONNX's protobuf, which files and other tools take.

Every value of a graph carries its type and, as far as ONNX infers it, its shape: `from_proto` sees to it when a graph
comes in, `infer_anew` after a change.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import helper

from edgeact.errors import ConversionError

__all__ = ["find_fault", "from_bytes", "from_proto", "infer_anew", "to_bytes"]

# Larger constants become inputs of the graph that ONNX's checker and shape inference get: they need only its type. A
# constant that states a shape is smaller.
_LARGE_BYTES = 1024


def from_proto(proto: onnx.ModelProto) -> ir.Model:
    """Return the graph of `proto` with types and shapes inferred. It shares the weights: `proto` must not be changed.

    Raises ConversionError if the graph is not valid ONNX.
    """
    try:
        model = ir.from_proto(proto)
    except ir.serde.SerdeError as error:
        raise ConversionError(_invalid(error)) from error
    if any(_lacks_type(value) for node in model.graph for value in node.outputs):
        _infer(model, strict=False)
    return model


def from_bytes(data: bytes) -> ir.Model:
    """Return the graph of a serialized ONNX model, as `from_proto`."""
    return from_proto(onnx.load_from_string(data))


def to_bytes(model: ir.Model) -> bytes:
    """Serialize `model` as ONNX; equal models give equal bytes."""
    data: bytes = ir.to_proto(model).SerializeToString()
    return data


def infer_anew(model: ir.Model) -> None:
    """Infer the types and shapes of all computed values after a change of the graph, those known before discarded.

    Raises ConversionError if the graph is not valid.
    """
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.type, value.shape = None, None
    _infer(model, strict=True)


def find_fault(model: ir.Model) -> str | None:
    """Return why ONNX's checker refuses the graph, or how a stated type contradicts inference; None if it is valid."""
    try:
        onnx.checker.check_model(_without_weights(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return str(error).splitlines()[0]
    return None


def _infer(model: ir.Model, *, strict: bool) -> None:
    try:
        inferred = onnx.shape_inference.infer_shapes(_without_weights(model), strict_mode=strict)
    except onnx.shape_inference.InferenceError as error:
        raise ConversionError(_invalid(error)) from error
    values = {value.name: value for node in model.graph for value in node.outputs}
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        if (value := values.get(info.name)) is not None:
            value.type = ir.serde.deserialize_type_proto_for_type(info.type)
            value.shape = ir.serde.deserialize_type_proto_for_shape(info.type)


def _without_weights(model: ir.Model) -> onnx.ModelProto:
    graph = model.graph
    large = [value for value in graph.initializers.values() if _size_bytes(value) > _LARGE_BYTES]
    view = ir.GraphView(
        list(dict.fromkeys([*graph.inputs, *large])),
        graph.outputs,
        nodes=graph,
        initializers=[value for value in graph.initializers.values() if _size_bytes(value) <= _LARGE_BYTES],
        name=graph.name,
    )
    proto = ir.to_proto(view)  # type: ignore[call-overload]  # onnx-ir's GraphView misses its own protocol
    opsets = [helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    functions = [ir.to_proto(function) for function in model.functions.values()]
    return helper.make_model(proto, opset_imports=opsets, ir_version=model.ir_version, functions=functions)


def _size_bytes(value: ir.Value) -> int:
    return 0 if value.const_value is None else value.const_value.nbytes


def _lacks_type(value: ir.Value) -> bool:
    return bool(value.name) and (value.type is None or value.shape is None)


def _invalid(error: Exception) -> str:
    return f"the graph is not valid ONNX: {str(error).splitlines()[0]}; export the model again"
