"""A mean, weighted by a constant and summed, in one pass over the features instead of two.

sum_B(mean_A(x) * c) = sum_(A and B)(x * c / |A|), with c the same along A. A frequency attention weighs the mean over T
of every position by a basis and sums over positions. The mean alone leaves the layout of convolutions (OpenVINO writes
it channels first and turns it back); the whole sum gives one number a channel, and the product joins what is computed
before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from edgeact.export.graph.edit import Readers, add_constant, axes_of, only_reader, readers_of, remove_nodes
from edgeact.export.graph.passes.base import Refusal
from edgeact.export.graph.view import GraphView, attribute, view

__all__ = ["OnePassSums", "Sum"]


@dataclass(frozen=True)
class Sum:
    """One mean, product and sum, by their outputs, and what takes their place."""

    mean: str
    product: str
    total: str
    source: str
    weights: np.ndarray
    axes: tuple[int, ...]


class OnePassSums:
    """See the module's formula."""

    name = "one-pass weighted sums"

    def check(self, model: onnx.ModelProto) -> tuple[Sum, ...] | Refusal:
        """Applies to every ReduceMean that only a product with a constant reads, which only a ReduceSum reads."""
        graph, readers = view(model), readers_of(model)
        found = [_sum(graph, readers, node) for node in graph.nodes if node.op_type == "ReduceMean"]
        sums = tuple(item for item in found if item is not None)
        return sums or Refusal("no mean is weighted by a constant and summed")

    def rewrite(self, model: onnx.ModelProto, plan: tuple[Sum, ...]) -> None:
        """Multiply what was averaged, and sum over both sets of axes."""
        for item in plan:
            nodes = list(model.graph.node)
            place = next(index for index, node in enumerate(nodes) if node.output[0] == item.total)
            weights = add_constant(model, f"{item.total}/weights", item.weights)
            axes = add_constant(model, f"{item.total}/axes", np.array(item.axes, np.int64))
            weighed = f"{item.total}/weighed"
            new = [
                helper.make_node("Mul", [item.source, weights], [weighed], f"{nodes[place].name}/Mul"),
                helper.make_node("ReduceSum", [weighed, axes], [item.total], nodes[place].name, keepdims=0),
            ]
            for offset, node in enumerate(new):
                model.graph.node.insert(place + 1 + offset, node)
            del model.graph.node[place]
            remove_nodes(model, [node for node in nodes if node.output[0] in (item.mean, item.product)])


def _sum(graph: GraphView, readers: Readers, mean: NodeProto) -> Sum | None:
    product = only_reader(readers, mean.output[0], "Mul")
    total = None if product is None else only_reader(readers, product.output[0], "ReduceSum")
    shape = graph.shapes.get(mean.input[0], ())
    if product is None or total is None or graph.types.get(mean.input[0]) != TensorProto.FLOAT:
        return None
    if attribute(mean, "keepdims", 1) or attribute(total, "keepdims", 1):
        return None
    weights = graph.constant(next(name for name in reversed(product.input) if name != mean.output[0]))
    averaged, summed = axes_of(graph, mean), axes_of(graph, total)
    left = len(shape) - len(averaged or ())
    if weights is None or averaged is None or summed is None or weights.ndim > left:
        return None
    sizes = [shape[axis] for axis in averaged]
    if any(not size for size in sizes):
        return None
    rest = [axis for axis in range(len(shape)) if axis not in averaged]
    widened = weights.reshape((1,) * (left - weights.ndim) + weights.shape)
    spread = np.expand_dims(widened, averaged) / np.float32(math.prod(size or 1 for size in sizes))
    axes = tuple(sorted({*averaged, *(rest[axis] for axis in summed)}))
    return Sum(mean.output[0], product.output[0], total.output[0], mean.input[0], spread.astype(np.float32), axes)
