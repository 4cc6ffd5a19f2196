"""Channels of zeros beside odd counts of them, so that a kernel's tiles are full.

Convolutions, sums, ReLU and pooling hand features on whose channel count n no tile divides: what was pruned, or a
user's own width. Filters of zeros bring n to the next multiple of 16; they give 0, which ReLU, pooling and sums keep,
and which the next convolutions meet with weights of 0.

Kernels for 60 channels are slower than those for 64: they end in a rest that is masked. It pays while little is added,
see `_MOST_ADDED`; docs/compression.md has what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from edgeact.export.graph.edit import Readers, add_constant, readers_of
from edgeact.export.graph.passes.base import Refusal
from edgeact.export.graph.view import GraphView, attribute, node_label, view

__all__ = ["PaddedChannels", "Padding"]

_MULTIPLE = 16
_MOST_ADDED = 0.25  # of the channels that are there: beyond, the work of the new ones outweighs what they win
_HANDING_ON = ("Relu", "MaxPool", "AveragePool", "Add")


@dataclass(frozen=True)
class Padding:
    """Features handed on from convolution to convolution, by the outputs of those that make and of those that read."""

    made_by: tuple[str, ...]
    read_by: tuple[str, ...]
    channels: int
    added: int


class PaddedChannels:
    """See the module's text."""

    name = "padded channels"

    def check(self, model: onnx.ModelProto) -> tuple[Padding, ...] | Refusal:
        """Applies to features that convolutions alone make and read, with sums, ReLU and pooling between."""
        graph, readers = view(model), readers_of(model)
        known: set[str] = set()
        found: list[Padding] = []
        for node in graph.nodes:
            if node.op_type == "Conv" and node.output[0] not in known:
                names = _handed_on(graph, readers, node.output[0])
                known |= names
                if padding := _padding(graph, readers, names):
                    found.append(padding)
        return tuple(found) or Refusal(
            f"no features between convolutions alone lie close below a multiple of {_MULTIPLE} channels"
        )

    def rewrite(self, model: onnx.ModelProto, plan: tuple[Padding, ...]) -> None:
        """Widen the weights and biases of those that make features, and the weights of those that read them."""
        constants = dict(view(model).constants)
        by_output = {node.output[0]: node for node in model.graph.node}
        for padding in plan:
            for axis, names in enumerate((padding.made_by, padding.read_by)):
                for name in names:
                    node = by_output[name]
                    for place, constant in enumerate(node.input[1:], start=1):
                        wide = _widened(numpy_helper.to_array(constants[constant]), padding.added, axis)
                        node.input[place] = add_constant(model, f"{node_label(node)}/padded{axis}/{place}", wide)
                        constants[node.input[place]] = model.graph.initializer[-1]


def _handed_on(graph: GraphView, readers: Readers, name: str) -> set[str]:
    """All tensors that have their channels from the same convolutions, or share a sum with one that has."""
    names, new = set[str](), [name]
    while new:
        one = new.pop()
        if one in names:
            continue
        names.add(one)
        maker = graph.producers.get(one)
        near = [maker] if maker is not None and maker.op_type in _HANDING_ON else []
        near += [reader for reader in readers.get(one, ()) if reader.op_type in _HANDING_ON]
        for node in near:
            new += [*(node.input if node.op_type == "Add" else node.input[:1]), node.output[0]]
    return names


def _padding(graph: GraphView, readers: Readers, names: set[str]) -> Padding | None:
    shapes = [graph.shapes.get(name) for name in names]
    counts = {shape[1] if shape and len(shape) > 2 else None for shape in shapes}
    (channels, *others) = counts
    makers = [graph.producers.get(name) for name in sorted(names)]
    if others or not channels or any(node is not None and len(node.output) > 1 for node in makers):
        return None
    added = -channels % _MULTIPLE
    if not 0 < added <= _MOST_ADDED * channels:
        return None
    made = [node for node in makers if node is None or node.op_type not in _HANDING_ON]
    read = [node for name in names for node in readers.get(name, ()) if node.op_type not in _HANDING_ON]
    if not read or not all(_is_plain(graph, node) for node in [*made, *read]):
        return None
    if any(node.input[0] not in names for node in read):  # they are the weights of it
        return None
    return Padding(_outputs(made), _outputs(read), channels, added)


def _outputs(nodes: Sequence[NodeProto | None]) -> tuple[str, ...]:
    return tuple(sorted({node.output[0] for node in nodes if node is not None}))


def _is_plain(graph: GraphView, node: NodeProto | None) -> bool:
    """A convolution of all its inputs, of constant weights and bias."""
    return (
        node is not None
        and node.op_type == "Conv"
        and attribute(node, "group", 1) == 1
        and all(name in graph.constants for name in node.input[1:])
    )


def _widened(values: np.ndarray, added: int, axis: int) -> np.ndarray:
    """With `added` zeros along an axis, where there is one: a bias is of outputs alone."""
    return np.pad(values, [(0, added if one == axis else 0) for one in range(values.ndim)])
