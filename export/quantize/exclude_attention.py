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
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import onnx
from onnx import NodeProto

from edgeact.export.graph.view import GraphView, view

__all__ = ["gate_layers"]

_GATES = ("Sigmoid", "HardSigmoid", "Softmax")
_LINEAR = ("Gemm", "MatMul")
_LAYERS = ("Conv", *_LINEAR)
_PRODUCTS = ("Mul", "MatMul")

_GATE = "attention gate: it scales all features behind it and takes no time in float"
_PRODUCT = "product of two computed matrices: attention weights of many positions are below one step of INT8"

Readers = Mapping[str, Sequence[NodeProto]]


def gate_layers(model: onnx.ModelProto) -> dict[str, str]:
    """Layer name -> reason, for every Conv, Gemm and MatMul of `model` that belongs to attention."""
    graph = view(model)
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.nodes:
        for name in node.input:
            readers[name].append(node)
    reasons: dict[str, str] = {}
    for node in graph.nodes:
        if node.op_type == "MatMul" and not graph.constants.keys() & {graph.source(name) for name in node.input}:
            reasons[node.name] = _PRODUCT
        if node.op_type in _GATES and (features := set(_weighed(graph, readers, node))):
            reasons |= {layer.name: _GATE for layer in _branch(graph, node, features) if layer.name not in reasons}
    return reasons


def _weighed(graph: GraphView, readers: Readers, gate: NodeProto) -> Iterator[str]:
    """What the gate's values are multiplied with, before any other layer reads them."""
    names, seen = list(gate.output), set(gate.output)
    while names:
        name = names.pop()
        for node in readers.get(name, ()):
            others = [other for other in node.input if other != name and other not in graph.constants]
            if node.op_type in _PRODUCTS and others:
                yield from others
            elif node.op_type not in _LAYERS:
                names += [output for output in node.output if output not in seen]
                seen.update(node.output)


def _branch(graph: GraphView, gate: NodeProto, features: set[str]) -> Iterator[NodeProto]:
    """The layers that lead to the gate and not to the features, convolutions as large as the features left out."""
    shared = set(_ancestors(graph, features, frozenset()))
    size = max(_size(graph, name) for name in features)
    for name in _ancestors(graph, set(gate.input), shared):
        node = graph.producers.get(name)
        if node is not None and (node.op_type in _LINEAR or (node.op_type == "Conv" and _size(graph, name) < size)):
            yield node


def _ancestors(graph: GraphView, names: set[str], known: set[str] | frozenset[str]) -> Iterator[str]:
    """`names` and everything they are computed from, down to what is `known`."""
    waiting, seen = list(names - known), set(names) | known
    while waiting:
        name = waiting.pop()
        yield name
        node = graph.producers.get(name)
        for source in node.input if node is not None else ():
            if source not in seen:
                seen.add(source)
                waiting.append(source)


def _size(graph: GraphView, name: str) -> int:
    return math.prod(side or 0 for side in graph.shapes.get(name, ()))
