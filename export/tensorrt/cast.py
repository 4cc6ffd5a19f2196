"""Restating a float32 ONNX graph in float16, some nodes excepted, with casts only where a type changes.

`onnxruntime.transformers.float16` does something close, but it passes a tensor between two excepted neighbours
through float16, which is where it would overflow; it clips weights without saying so, and it writes casts out of
topological order. Here a tensor has the type of the node that makes it, and is cast once per type that reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgeact.export.graph.view import GraphView, view

__all__ = ["half_variables", "to_half", "with_float_quantizers"]

_HALF = "tensor(float16)"
_SUFFIX: dict[int, str] = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}


def to_half(model: onnx.ModelProto, float_nodes: Collection[int]) -> onnx.ModelProto:
    """A copy of `model` in float16; inputs and outputs stay float32, and so do the nodes whose index is given.

    Operators without float16 in the graph's opset stay float32 too. Weights are rounded to the nearest float16
    value; the caller has seen to it that they fit. Casts stand right before their first reader.
    """
    graph = view(model)
    retyping = _Retyping(graph)
    for index, node in enumerate(graph.nodes):
        wanted = TensorProto.FLOAT if index in float_nodes else TensorProto.FLOAT16
        retyping.add(node, wanted)
    retyping.close()
    half = onnx.ModelProto()
    half.CopyFrom(model)
    del half.graph.node[:], half.graph.initializer[:], half.graph.value_info[:]
    half.graph.node.extend(retyping.nodes)
    half.graph.initializer.extend(retyping.initializers.values())
    return half


def with_float_quantizers(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` in which every QuantizeLinear reads float32; it gives the integers that the standard asks for.

    For graphs run by ONNX Runtime: on CPUs its releases up to 1.29 truncate in a float16 QuantizeLinear, where the
    standard has them round, which costs some 20 dB; 1.23 is the last for Python 3.10.
    """
    types = view(model).types
    nodes: list[NodeProto] = []
    for original in model.graph.node:
        node = NodeProto()
        node.CopyFrom(original)
        if node.op_type == "QuantizeLinear" and types.get(node.input[0]) == TensorProto.FLOAT16:
            for index, role in enumerate(("value", "scale")):
                wide = f"{node.output[0]}/{role}/fp32"
                nodes.append(_cast(node.input[index], wide, TensorProto.FLOAT))
                node.input[index] = wide
        nodes.append(node)
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    del wider.graph.node[:]
    wider.graph.node.extend(nodes)
    return wider


def half_variables(schema: onnx.defs.OpSchema) -> frozenset[str]:
    """The type variables of an operator that bind an input and may be float16."""
    bound = {formal.type_str for formal in schema.inputs}
    return frozenset(
        constraint.type_param_str
        for constraint in schema.type_constraints
        if constraint.type_param_str in bound and _HALF in constraint.allowed_type_strs
    )


@dataclass
class _Retyping:
    """The graph written so far: which tensor is there in which type, under which name."""

    graph: GraphView
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)
    native: dict[str, int] = field(default_factory=dict)
    cast_names: dict[tuple[str, int], str] = field(default_factory=dict)

    def add(self, original: NodeProto, wanted: int) -> None:
        """Write the node with its float inputs and outputs of the type `wanted`, where its operator allows it."""
        node = NodeProto()
        node.CopyFrom(original)
        schema = self.graph.schema(original)
        variables = half_variables(schema) if schema else frozenset()
        for index, (name, variable) in enumerate(_typed(node.input, schema.inputs if schema else ())):
            if name and self._is_float(name):
                node.input[index] = self._read(name, wanted if variable in variables else TensorProto.FLOAT)
            elif name in self.graph.constants:
                self._keep_constant(name)
        for name, variable in _typed(node.output, schema.outputs if schema else ()):
            if name and self._is_float(name):
                self.native[name] = wanted if variable in variables else TensorProto.FLOAT
        if original.output[0] not in self.graph.constants:  # constants become initializers
            self.nodes.append(node)

    def close(self) -> None:
        """Give the graph's outputs back their float32 names."""
        for value in self.graph.model.graph.output:
            if self.native.get(value.name) == TensorProto.FLOAT16:
                inner = f"{value.name}/fp16"
                self._rename(value.name, inner)
                self.nodes.append(_cast(inner, value.name, TensorProto.FLOAT))

    def _is_float(self, name: str) -> bool:
        return self.graph.types.get(name) == TensorProto.FLOAT

    def _read(self, name: str, wanted: int) -> str:
        """The name under which the float tensor can be read in type `wanted`; casts it on first use."""
        if (name, wanted) in self.cast_names:
            return self.cast_names[name, wanted]
        if name in self.graph.constants:
            read = self._keep_float_constant(name, wanted)
        elif self.native.get(name, TensorProto.FLOAT) == wanted:
            read = name
        else:
            read = f"{name}/{_SUFFIX[wanted]}"
            self.nodes.append(_cast(name, read, wanted))
        self.cast_names[name, wanted] = read
        return read

    def _keep_constant(self, name: str) -> None:
        tensor = TensorProto()
        tensor.CopyFrom(self.graph.constants[name])
        tensor.name = name
        self.initializers[name] = tensor

    def _keep_float_constant(self, name: str, wanted: int) -> str:
        if wanted == TensorProto.FLOAT:
            self._keep_constant(name)
            return name
        value = numpy_helper.to_array(self.graph.constants[name])
        half = f"{name}/fp16"
        with np.errstate(over="raise"):
            self.initializers[half] = numpy_helper.from_array(value.astype(np.float16), half)
        return half

    def _rename(self, old: str, new: str) -> None:
        for node in self.nodes:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == old:
                        names[index] = new


def _typed(
    names: Collection[str], formals: Collection[onnx.defs.OpSchema.FormalParameter]
) -> Iterator[tuple[str, str | None]]:
    """Each actual tensor with the type variable of its formal parameter; the last one repeats (variadic)."""
    declared = list(formals)
    for index, name in enumerate(names):
        yield name, declared[min(index, len(declared) - 1)].type_str if declared else None


def _cast(source: str, target: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"Cast_{target}", to=to)
