"""What several rewrites look up and change in a graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from edgeact.export.graph.view import GraphView, attribute

__all__ = ["add_constant", "axes_of", "only_reader", "readers_of", "remove_nodes"]

Readers = Mapping[str, Sequence[NodeProto]]


def readers_of(model: onnx.ModelProto) -> Readers:
    """Tensor -> the nodes that read it, in the graph's order; one that reads it twice stands there twice."""
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    for value in model.graph.output:
        readers[value.name].append(NodeProto(op_type="graph output"))
    return readers


def only_reader(readers: Readers, name: str, op_type: str) -> NodeProto | None:
    """The one node that reads `name`, where it is of that type."""
    found = readers.get(name, ())
    return found[0] if len(found) == 1 and found[0].op_type == op_type else None


def axes_of(graph: GraphView, node: NodeProto) -> tuple[int, ...] | None:
    """The axes a reduction reduces, from 0 and ascending; None where they or the rank are not known."""
    given = attribute(node, "axes", None)
    if given is None and len(node.input) > 1:
        constant = graph.constant(node.input[1])
        given = None if constant is None else constant.tolist()
    shape = graph.shapes.get(node.input[0])
    return None if given is None or shape is None else tuple(sorted(axis % len(shape) for axis in given))


def add_constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> str:
    """Add a constant of that name; returns the name."""
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def remove_nodes(model: onnx.ModelProto, nodes: Iterable[NodeProto]) -> None:
    """Take the nodes out; they are known by their first output."""
    gone = {node.output[0] for node in nodes}
    kept = [node for node in model.graph.node if node.output[0] not in gone]
    del model.graph.node[:]
    model.graph.node.extend(kept)
