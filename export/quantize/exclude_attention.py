"""Which layers of a graph only compute attention weights, found by what the graph does with their results.

A sigmoid or softmax is a gate where its values are multiplied with features. The layers that lead to it, from those
features or from what they were made of, are attention: a convolution of pooled features, a bottleneck, the queries and
keys of self-attention. One rounded value there scales all features behind it, and they take next to no time, so they
stay in float. Two kinds stand apart:

* a convolution that gives as many values as there are features (a gate for every value) takes as much time as a layer
  of the backbone, and rounds no more: it is quantized like one;
* the product of two computed matrices stays in float wherever it stands: self-attention's weights of many positions are
  smaller than one step of INT8, and would all be 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx_ir as ir

from edgeact.export.graph.values import dims_of, given_inputs, is_constant, name_of, quantized_source

__all__ = ["gate_layers"]

_GATES = ("Sigmoid", "HardSigmoid", "Softmax")
_LINEAR = ("Gemm", "MatMul")
_LAYERS = ("Conv", *_LINEAR)
_PRODUCTS = ("Mul", "MatMul")

_GATE = "attention gate: it scales all features behind it and takes no time in float"
_PRODUCT = "product of two computed matrices: attention weights of many positions are below one step of INT8"


def gate_layers(model: ir.Model) -> dict[str, str]:
    """Layer name -> reason, for every Conv, Gemm and MatMul of `model` that belongs to attention."""
    reasons: dict[ir.Node, str] = {}
    for node in model.graph:
        if node.op_type == "MatMul" and not any(is_constant(quantized_source(value)) for value in given_inputs(node)):
            reasons[node] = _PRODUCT
        if node.op_type in _GATES and (features := set(_weighed(node))):
            for layer in _branch(node, features):
                reasons.setdefault(layer, _GATE)
    return {name_of(node): reasons[node] for node in model.graph if node in reasons}


def _weighed(gate: ir.Node) -> Iterator[ir.Value]:
    """What the gate's values are multiplied with, before any other layer reads them."""
    values, seen = list(gate.outputs), set(gate.outputs)
    while values:
        value = values.pop()
        for node in value.consumers():
            others = [other for other in given_inputs(node) if other is not value and not is_constant(other)]
            if node.op_type in _PRODUCTS and others:
                yield from others
            elif node.op_type not in _LAYERS:
                values += [output for output in node.outputs if output not in seen]
                seen.update(node.outputs)


def _branch(gate: ir.Node, features: set[ir.Value]) -> Iterator[ir.Node]:
    """The layers that lead to the gate and not to the features, convolutions as large as the features left out."""
    shared = set(_ancestors(features, set()))
    size = max(_size(value) for value in features)
    for value in _ancestors(set(given_inputs(gate)), shared):
        node = value.producer()
        if node is not None and (node.op_type in _LINEAR or (node.op_type == "Conv" and _size(value) < size)):
            yield node


def _ancestors(values: set[ir.Value], known: set[ir.Value]) -> Iterator[ir.Value]:
    """`values` and everything they are computed from, down to what is `known`."""
    waiting, seen = list(values - known), values | known
    while waiting:
        value = waiting.pop()
        yield value
        node = value.producer()
        for source in given_inputs(node) if node is not None else ():
            if source not in seen:
                seen.add(source)
                waiting.append(source)


def _size(value: ir.Value) -> int:
    return math.prod(side or 0 for side in dims_of(value) or ())
