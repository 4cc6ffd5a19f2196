"""Restate a float32 graph in float16, chosen nodes excepted, with casts only between different types.

`onnxruntime.transformers.float16` does something close, but it passes a tensor between two excepted neighbors through
float16, in which the tensor would overflow; it clips weights silently, and it writes casts out of topological
order. Here a tensor has the type of the node that produces it, and is cast once per type that a reader needs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import onnx
import onnx_ir as ir

from edgeact.export.graph.values import is_constant, name_of, operand, opset_of, required_array, schema_of

__all__ = ["half_variables", "to_half", "with_float_quantizers"]

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
_HALF_IN_SCHEMAS = "tensor(float16)"
_Optional = TypeVar("_Optional", ir.Value, ir.Value | None)
_SUFFIX = {_FLOAT: "fp32", _HALF: "fp16"}


def to_half(model: ir.Model, float_nodes: Collection[ir.Node]) -> ir.Model:
    """Return a copy of `model` in float16; inputs, outputs and the nodes of `float_nodes` are kept in float32.

    So are operators without float16 in the graph's opset. Weights are rounded to the nearest float16 value. A cast
    stands right before its first reader. Raises FloatingPointError if a weight is larger than float16 can be.
    """
    cast = _HalfGraph(opset_of(model))
    inputs = [cast.add_input(value) for value in model.graph.inputs if not value.is_initializer()]
    for node in model.graph:
        cast.add_node(node, _FLOAT if node in float_nodes else _HALF)
    outputs = [cast.float_output(value) for value in model.graph.outputs]
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=cast.nodes,
        initializers=list(cast.initializers.values()),
        opset_imports=dict(model.opset_imports),
        name=model.graph.name,
        metadata_props=dict(model.graph.metadata_props),
    )
    return ir.Model(
        graph,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
    )


def with_float_quantizers(model: ir.Model) -> ir.Model:
    """Return a copy of `model` in which every QuantizeLinear reads float32, so that it rounds as the standard says.

    For graphs that ONNX Runtime runs: on CPUs its releases up to 1.29 truncate in a float16 QuantizeLinear although
    the standard rounds, which costs some 20 dB; 1.23 is the last release for Python 3.10.
    """
    wider = model.clone()
    for node in list(wider.graph):
        if node.op_type == "QuantizeLinear" and operand(node, 0).dtype == _HALF:
            for index, role in enumerate(("value", "scale")):
                cast = _cast(operand(node, index), f"{name_of(node.outputs[0])}/{role}/fp32", _FLOAT)
                wider.graph.insert_before(node, cast)
                node.replace_input_with(index, cast.outputs[0])
    return wider


def half_variables(schema: onnx.defs.OpSchema) -> frozenset[str]:
    """Return the type variables of an operator that bind an input and may be float16."""
    bound = {formal.type_str for formal in schema.inputs}
    return frozenset(
        constraint.type_param_str
        for constraint in schema.type_constraints
        if constraint.type_param_str in bound and _HALF_IN_SCHEMAS in constraint.allowed_type_strs
    )


@dataclass
class _HalfGraph:
    """The part of the new graph written so far."""

    opset: int
    nodes: list[ir.Node] = field(default_factory=list)
    initializers: dict[str, ir.Value] = field(default_factory=dict)
    values: dict[ir.Value, ir.Value] = field(default_factory=dict)
    """Value of the old graph -> the value that its node produces in the new one."""
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = field(default_factory=dict)
    """Float value of the old graph and type -> the value that is read in that type."""

    def add_input(self, value: ir.Value) -> ir.Value:
        """Add an input of the graph."""
        return self.values.setdefault(value, ir.val(value.name, shape=value.shape, type=value.type))

    def add_node(self, node: ir.Node, element_type: ir.DataType) -> None:
        """Add the node with float inputs and outputs of type `element_type`, if its operator allows that type."""
        schema = schema_of(node, self.opset)
        variables = half_variables(schema) if schema else frozenset()
        if is_constant(node.outputs[0]):  # becomes an initializer when it is read
            return
        inputs = [
            None if value is None else self._read(value, element_type if variable in variables else _FLOAT)
            for value, variable in _typed(node.inputs, schema.inputs if schema else ())
        ]
        outputs = [
            self._declare(value, element_type if variable in variables else _FLOAT)
            for value, variable in _typed(node.outputs, schema.outputs if schema else ())
        ]
        self.nodes.append(
            ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), outputs=outputs, name=node.name)
        )

    def float_output(self, output: ir.Value) -> ir.Value:
        """Return an output of the graph under its name in float32, cast if it is float16."""
        value = self.values[output]
        if value.dtype != _HALF:
            return value
        value.name = f"{name_of(output)}/fp16"
        self.nodes.append(_cast(value, name_of(output), _FLOAT))
        return self.nodes[-1].outputs[0]

    def _declare(self, value: ir.Value, element_type: ir.DataType) -> ir.Value:
        kind = ir.TensorType(element_type) if value.dtype == _FLOAT else value.type
        return self.values.setdefault(value, ir.val(value.name, shape=value.shape, type=kind))

    def _read(self, value: ir.Value, element_type: ir.DataType) -> ir.Value:
        """Return the value to read; a float value in type `element_type`, cast on first use."""
        if value.dtype != _FLOAT:
            return self._constant(value, name_of(value)) if is_constant(value) else self.values[value]
        if (value, element_type) not in self.casts:
            self.casts[value, element_type] = self._in_type(value, element_type)
        return self.casts[value, element_type]

    def _in_type(self, value: ir.Value, element_type: ir.DataType) -> ir.Value:
        name = f"{name_of(value)}/{_SUFFIX[element_type]}"
        if is_constant(value):
            return self._constant(value, name_of(value) if element_type == _FLOAT else name)
        produced = self.values[value]
        if produced.dtype == element_type:
            return produced
        self.nodes.append(_cast(produced, name, element_type))
        return self.nodes[-1].outputs[0]

    def _constant(self, value: ir.Value, name: str) -> ir.Value:
        """Return the initializer `name`: the constant itself, or in float16 if `name` is another name."""
        if name not in self.initializers:
            tensor = ir.convenience.get_const_tensor(value)
            if tensor is None or name != value.name:
                with np.errstate(over="raise"):
                    tensor = ir.tensor(required_array(value).astype(np.float16), name=name)
            self.initializers[name] = ir.val(name, tensor.dtype, tensor.shape.numpy(), const_value=tensor)
        return self.initializers[name]


def _typed(
    values: Sequence[_Optional], formals: Collection[onnx.defs.OpSchema.FormalParameter]
) -> Iterator[tuple[_Optional, str | None]]:
    """Yield each value with the type variable of its formal parameter; the last one repeats (variadic)."""
    declared = list(formals)
    for index, value in enumerate(values):
        yield value, declared[min(index, len(declared) - 1)].type_str if declared else None


def _cast(source: ir.Value, name: str, to: ir.DataType) -> ir.Node:
    output = ir.val(name, to, source.shape)
    return ir.node("Cast", [source], {"to": int(to)}, outputs=[output], name=f"Cast_{name}")
