"""Pad odd channel counts with channels of zeros, so that a kernel's tiles are full.

Convolutions, sums, ReLU and pooling pass on activations whose channel count n is no multiple of a tile, after pruning
or by a user's choice of width. Filters of zeros bring n to the next multiple of 16; they give 0, which ReLU, pooling
and sums keep, and which the next convolutions multiply by weights of 0.

Kernels for 60 channels are slower than those for 64, because they end in a masked remainder. It pays if few channels
are added, see `_MAX_ADDED_SHARE`; docs/compression.md has the measurement.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeact.export.graph.edit import add_constant
from edgeact.export.graph.passes.base import Refusal
from edgeact.export.graph.values import (
    dims_of,
    given_inputs,
    is_constant,
    name_of,
    node_label,
    operand,
    required_array,
)

__all__ = ["ChannelPadding", "PadChannels"]

_MULTIPLE = 16
_MAX_ADDED_SHARE = 0.25  # of the existing channels: with more, the added work outweighs the faster kernels
_CHANNELWISE_OPS = ("Relu", "MaxPool", "AveragePool", "Add")


@dataclass(frozen=True)
class ChannelPadding:
    """Coupled activations: the convolutions that produce them, those that read them, and the channels to add."""

    producers: tuple[ir.Node, ...]
    readers: tuple[ir.Node, ...]
    added: int


class PadChannels:
    """The rewrite that brings channel counts to a multiple of a tile."""

    name = "pad_channels"

    def check(self, model: ir.Model) -> tuple[ChannelPadding, ...] | Refusal:
        """Apply to activations that only convolutions produce and read, with sums, ReLU and pooling between."""
        examined: set[ir.Value] = set()
        plan: list[ChannelPadding] = []
        for node in model.graph:
            if node.op_type == "Conv" and node.outputs[0] not in examined:
                coupled = _coupled_values(node.outputs[0])
                examined |= coupled
                if padding := _padding(coupled):
                    plan.append(padding)
        return tuple(plan) or Refusal(
            f"activations between convolutions with slightly fewer channels than a multiple of {_MULTIPLE}", "none"
        )

    def rewrite(self, model: ir.Model, plan: tuple[ChannelPadding, ...]) -> None:
        """Widen weights and biases of the producers along their outputs, weights of the readers along their inputs."""
        for padding in plan:
            for axis, convs in enumerate((padding.producers, padding.readers)):
                for conv in convs:
                    for index in range(1, len(conv.inputs)):
                        name = f"{node_label(conv)}/padded{axis}/{index}"
                        wide = _append_zeros(required_array(operand(conv, index)), padding.added, axis)
                        conv.replace_input_with(index, add_constant(model.graph, name, wide))


def _coupled_values(value: ir.Value) -> set[ir.Value]:
    """Return all tensors that get their channels from the same convolutions, or are summed with such a tensor."""
    coupled, waiting = set[ir.Value](), [value]
    while waiting:
        value = waiting.pop()
        if value in coupled:
            continue
        coupled.add(value)
        producer = value.producer()
        neighbors = [node for node in (producer, *value.consumers()) if node and node.op_type in _CHANNELWISE_OPS]
        for node in neighbors:
            inputs = given_inputs(node) if node.op_type == "Add" else [operand(node, 0)]
            waiting += [*inputs, node.outputs[0]]
    return coupled


def _padding(coupled: set[ir.Value]) -> ChannelPadding | None:
    channels = _common_channels(coupled)
    producers = [value.producer() for value in coupled]
    if not channels or any(node is not None and len(node.outputs) > 1 for node in producers):
        return None
    added = -channels % _MULTIPLE
    if not 0 < added <= _MAX_ADDED_SHARE * channels:
        return None
    sources = {node for node in producers if node is None or node.op_type not in _CHANNELWISE_OPS}
    readers = {node for value in coupled for node in value.consumers() if node.op_type not in _CHANNELWISE_OPS}
    if not readers or any(value.is_graph_output() for value in coupled):
        return None
    if not all(_is_plain_conv(node) for node in (*sources, *readers)):
        return None
    if any(node.inputs[0] not in coupled for node in readers):  # a reader that takes the tensor as its weight
        return None
    return ChannelPadding(_by_output(sources), _by_output(readers), added)


def _common_channels(values: Iterable[ir.Value]) -> int | None:
    """Return the channel count of all tensors, None if they differ or a tensor is not an activation (N, C, ...)."""
    all_dims = [dims_of(value) or () for value in values]
    counts = {dims[1] if len(dims) > 2 else None for dims in all_dims}
    return counts.pop() if len(counts) == 1 else None


def _by_output(nodes: Iterable[ir.Node | None]) -> tuple[ir.Node, ...]:
    """Return the nodes in the order of their outputs' names: equal graphs get their constants in the same order."""
    return tuple(sorted((node for node in nodes if node is not None), key=lambda node: name_of(node.outputs[0])))


def _is_plain_conv(node: ir.Node | None) -> bool:
    """Return whether `node` is a convolution without groups whose weight and bias are constants."""
    return (
        node is not None
        and node.op_type == "Conv"
        and node.attributes.get_int("group", 1) == 1
        and all(is_constant(value) for value in node.inputs[1:])
    )


def _append_zeros(array: np.ndarray, added: int, axis: int) -> np.ndarray:
    """Return `array` with `added` zeros along `axis`; unchanged if it has no such axis, as a bias along the inputs."""
    return np.pad(array, [(0, added if index == axis else 0) for index in range(array.ndim)])
