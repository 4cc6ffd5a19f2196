"""Find the layers of a graph that compute attention weights only, by the use of their results.

A sigmoid or softmax is a gate if its values are multiplied with activations. The layers between those activations, or
their inputs, and the gate are attention: a convolution of pooled activations, a bottleneck, the queries and keys of
self-attention. A quantization error there scales whole channels or frames, and these layers take little time, so they
are kept in float. Two exceptions:

* a convolution with as many outputs as the gated activation has values (a gate for every value) takes as much time as a
  layer of the backbone and is no more sensitive: it is quantized;
* the product of two activations is kept in float everywhere: self-attention weights over many positions are smaller
  than one INT8 scale and would all become 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx_ir as ir

from edgeact.export.graph.values import dims_of, given_inputs, is_constant, name_of, quantized_source
from edgeact.layer_reasons import ActivationProduct, AttentionGate

__all__ = ["gate_layers"]

_GATES = ("Sigmoid", "HardSigmoid", "Softmax")
_LINEAR = ("Gemm", "MatMul")
_LAYERS = ("Conv", *_LINEAR)
_PRODUCTS = ("Mul", "MatMul")


def gate_layers(model: ir.Model) -> dict[str, AttentionGate | ActivationProduct]:
    """Return layer name -> reason, for every Conv, Gemm and MatMul of `model` that belongs to attention."""
    reasons: dict[ir.Node, AttentionGate | ActivationProduct] = {}
    for node in model.graph:
        if node.op_type == "MatMul" and not any(is_constant(quantized_source(value)) for value in given_inputs(node)):
            reasons[node] = ActivationProduct()
        if node.op_type in _GATES and (gated := set(_gated(node))):
            for layer in _branch(node, gated):
                reasons.setdefault(layer, AttentionGate())
    return {name_of(node): reasons[node] for node in model.graph if node in reasons}


def _gated(gate: ir.Node) -> Iterator[ir.Value]:
    """Yield the activations that the gate's values are multiplied with, before any other layer reads them."""
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


def _branch(gate: ir.Node, gated: set[ir.Value]) -> Iterator[ir.Node]:
    """Yield the layers that only the gate depends on, without convolutions as large as the gated activations."""
    shared = set(_ancestors(gated, set()))
    size = max(_size(value) for value in gated)
    for value in _ancestors(set(given_inputs(gate)), shared):
        node = value.producer()
        if node is not None and (node.op_type in _LINEAR or (node.op_type == "Conv" and _size(value) < size)):
            yield node


def _ancestors(values: set[ir.Value], known: set[ir.Value]) -> Iterator[ir.Value]:
    """Yield `values` and all their ancestors, except `known`."""
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
