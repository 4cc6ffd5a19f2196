"""Kernel taps that never meet anything but padding, left out.

Along an axis of n inputs, tap k of a convolution of stride s, dilation d and padding b before reads position
o * s + k * d - b for output o. Where that lies outside [0, n) for every output, its weights are multiplied with zeros
alone. In the last stage of a clip of 8 frames one time step is left, and two thirds of all 3x3x3 weights are dead:
they are read, kept and shipped for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from edgeact.export.graph.edit import add_constant
from edgeact.export.graph.passes.base import Refusal
from edgeact.export.graph.view import GraphView, attribute, node_label, view

__all__ = ["DeadTaps", "Trim"]


@dataclass(frozen=True)
class Trim:
    """A convolution, by its output, and what is left of it: taps first to last along each axis, and its padding."""

    output: str
    weight: str
    taps: tuple[slice, ...]
    pads: tuple[int, ...]


class DeadTaps:
    """See the module's formula."""

    name = "dead kernel taps"

    def check(self, model: onnx.ModelProto) -> tuple[Trim, ...] | Refusal:
        """Applies to every Conv of constant weights, known sizes and explicit padding whose outer taps are dead."""
        graph = view(model)
        found = [_trim(graph, node) for node in graph.nodes if node.op_type == "Conv"]
        trims = tuple(item for item in found if item is not None)
        return trims or Refusal("every tap of every convolution meets features")

    def rewrite(self, model: onnx.ModelProto, plan: tuple[Trim, ...]) -> None:
        """Cut weights and padding."""
        graph = view(model)
        for item in plan:
            node = next(node for node in model.graph.node if node.output[0] == item.output)
            kept = numpy_helper.to_array(graph.constants[item.weight])[(slice(None), slice(None), *item.taps)]
            node.input[1] = add_constant(model, f"{node_label(node)}/taps/weight", kept)
            others = [one for one in node.attribute if one.name not in ("kernel_shape", "pads")]
            del node.attribute[:]
            node.attribute.extend(others)
            node.attribute.append(helper.make_attribute("kernel_shape", list(kept.shape[2:])))
            node.attribute.append(helper.make_attribute("pads", list(item.pads)))


def _trim(graph: GraphView, node: NodeProto) -> Trim | None:
    weight = graph.constant(node.input[1])
    sizes, results = (graph.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
    if weight is None or None in sizes or None in results or len(sizes) != weight.ndim or len(results) != weight.ndim:
        return None
    if attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
        return None
    axes = weight.ndim - 2
    pads = attribute(node, "pads", [0] * 2 * axes)
    strides, dilations = (attribute(node, name, [1] * axes) for name in ("strides", "dilations"))
    taps, before, after = [], [], []
    for axis in range(axes):
        positions = np.arange(results[axis + 2] or 0)[:, None] * strides[axis] - pads[axis]
        read = positions + np.arange(weight.shape[axis + 2]) * dilations[axis]
        alive = np.flatnonzero(((read >= 0) & (read < (sizes[axis + 2] or 0))).any(axis=0))
        if not len(alive):
            return None
        first, last = int(alive[0]), int(alive[-1])
        taps.append(slice(first, last + 1))
        before.append(pads[axis] - first * dilations[axis])
        after.append(pads[axis + axes] - (weight.shape[axis + 2] - 1 - last) * dilations[axis])
    if all(one.stop - one.start == size for one, size in zip(taps, weight.shape[2:], strict=True)):
        return None
    if min(*before, *after) < 0:
        return None
    return Trim(node.output[0], node.input[1], tuple(taps), (*before, *after))
