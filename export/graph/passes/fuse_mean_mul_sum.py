"""Fuse a mean that is weighted by a constant and summed into one weighted sum.

sum_B(mean_A(x) * c) = sum_(A and B)(x * c / |A|), with c the same along A. A frequency attention weights the mean over
T of every position by a basis and sums over positions. The mean alone leaves the memory layout of convolutions
(OpenVINO writes it channels-first and transposes it back); the whole sum returns one number per channel, and the
product is fused with the layer before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeact.export.graph.edit import add_constant
from edgeact.export.graph.passes.base import Refusal
from edgeact.export.graph.values import (
    constant_array,
    dims_of,
    name_of,
    only_consumer,
    operand,
    reduction_axes,
)

__all__ = ["FuseMeanMulSum", "WeightedSum"]


@dataclass(frozen=True)
class WeightedSum:
    """A ReduceMean, Mul and ReduceSum, and the weights and axes of the sum that replaces them."""

    mean: ir.Node
    product: ir.Node
    total: ir.Node
    weights: np.ndarray
    """float32, of the input's rank."""
    axes: tuple[int, ...]


class FuseMeanMulSum:
    """The rewrite that makes one weighted sum of a mean, a product and a sum."""

    name = "fuse_mean_mul_sum"

    def check(self, model: ir.Model) -> tuple[WeightedSum, ...] | Refusal:
        """Apply to every ReduceMean that only a product with a constant reads, which only a ReduceSum reads."""
        sums = tuple(fused for node in model.graph if node.op_type == "ReduceMean" and (fused := _weighted_sum(node)))
        return sums or Refusal("a mean that is weighted by a constant and summed", "none")

    def rewrite(self, model: ir.Model, plan: tuple[WeightedSum, ...]) -> None:
        """Multiply the mean's input by the weights, and sum over both sets of axes."""
        graph = model.graph
        for fused in plan:
            old = fused.total.outputs[0]
            name = name_of(old)
            weights = add_constant(graph, f"{name}/weights", fused.weights)
            axes = add_constant(graph, f"{name}/axes", np.array(fused.axes, np.int64))
            tape = ir.tape.Tape()
            source = operand(fused.mean, 0)
            weighted = tape.op(
                "Mul", [source, weights], name=f"{fused.total.name}/Mul", output=ir.val(f"{name}/weighed")
            )
            new = tape.op("ReduceSum", [weighted, axes], {"keepdims": 0}, name=fused.total.name)
            ir.convenience.replace_nodes_and_values(
                graph, fused.total, [fused.mean, fused.product, fused.total], tape.nodes, [old], [new]
            )


def _weighted_sum(mean: ir.Node) -> WeightedSum | None:
    average, source = mean.outputs[0], operand(mean, 0)
    product = only_consumer(average, "Mul")
    total = None if product is None else only_consumer(product.outputs[0], "ReduceSum")
    if product is None or total is None or source.dtype != ir.DataType.FLOAT:
        return None
    if mean.attributes.get_int("keepdims", 1) or total.attributes.get_int("keepdims", 1):
        return None
    weights = constant_array(next(value for value in reversed(product.inputs) if value is not average))
    dims, averaged, summed = dims_of(source), reduction_axes(mean), reduction_axes(total)
    if weights is None or dims is None or averaged is None or summed is None:
        return None
    kept = [axis for axis in range(len(dims)) if axis not in averaged]
    sizes = [dims[axis] or 0 for axis in averaged]
    if weights.ndim > len(kept) or not all(sizes):
        return None
    broadcast = weights.reshape((1,) * (len(kept) - weights.ndim) + weights.shape)
    spread = np.expand_dims(broadcast, averaged) / np.float32(math.prod(sizes))
    axes = tuple(sorted({*averaged, *(kept[axis] for axis in summed)}))
    return WeightedSum(mean, product, total, spread.astype(np.float32), axes)
