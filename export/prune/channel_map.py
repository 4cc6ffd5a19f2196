"""Which channels of two coupled nodes are the same, by the shapes that autograd remembers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from edgeact.export.prune.dependency_graph import Dependency, Node, Operation, Shape

__all__ = ["ChannelMap", "Indices", "is_followed", "map_channels"]

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ChannelMap:
    """Channel `start + i` of the source is channels `(shift + i) * stride` to `(shift + i + 1) * stride` of the target.

    Indices of a split count the channels of its input, those of a concatenation the channels of its output.
    """

    start: int = 0
    """First channel of the source that is passed on: behind a split."""
    count: int | None = None
    """Number of channels that are passed on; None: all."""
    shift: int = 0
    """First channel in the target, not 0 before a concatenation."""
    stride: int = 1
    """Channels of the target per channel: before flattening `(N, C, ...)` to `(N, C * rest)`."""

    def forward(self, source: Indices) -> Indices:
        """Return `(pairs, 2)`: each of the channels `source` with each of its channels in the target."""
        passed = source[self._holds(source - self.start)]
        first = (passed - self.start + self.shift) * self.stride
        target = first[:, None] + np.arange(self.stride)
        return np.stack([np.repeat(passed, self.stride), target.ravel()], axis=1)

    def backward(self, target: Indices) -> Indices:
        """Return `(pairs, 2)`: the channel in the source of each of the channels `target`, and that channel."""
        passed = target // self.stride - self.shift
        held = self._holds(passed)
        return np.stack([passed[held] + self.start, target[held]], axis=1)

    def _holds(self, passed: Indices) -> npt.NDArray[np.bool_]:
        return (passed >= 0) & (passed < (np.iinfo(np.int64).max if self.count is None else self.count))


_NOTHING = ChannelMap(count=0)


def map_channels(dependency: Dependency) -> ChannelMap:
    """Return the map of a dependency; the identity if one of its nodes is not followed."""
    source, target = dependency.source, dependency.target
    if not (is_followed(source) and is_followed(target)):
        return ChannelMap()
    start, count = 0, None
    if source.operation is Operation.SPLIT and _splits_channels(source) and dependency.part is not None:
        sizes = [shape[1] for shape in source.output_shapes]
        start, count = sum(sizes[: dependency.part]), sizes[dependency.part]
    if target.operation is Operation.CONCAT and _joins_channels(target):
        sizes = [shape[1] for shape in target.input_shapes]
        return ChannelMap(start, sizes[dependency.position], sum(sizes[: dependency.position]))
    if target.operation is Operation.RESHAPE and _flattens(target.input_shapes[0], target.output_shapes[0]):
        return ChannelMap(start, count, stride=prod(target.input_shapes[0][2:]))
    if target.operation is Operation.ELEMENTWISE and _is_broadcast(dependency):
        return _NOTHING  # one channel that is combined with every channel is coupled with none of them
    return ChannelMap(start, count)


def is_followed(node: Node) -> bool:
    """Return whether the channels that go through a node can be mapped."""
    if node.operation in (Operation.LAYER, Operation.PARAMETER, Operation.OUTPUT) or not node.operator:
        return True
    if not node.output_shapes or any(len(shape) < 2 for shape in (*node.input_shapes, node.output_shapes[0])):
        return not node.input_shapes
    after = node.output_shapes[0]
    if node.operation is Operation.SPLIT:
        return not _splits_channels(node) or all(dependency.part is not None for dependency in node.outputs)
    if node.operation is Operation.CONCAT:
        return _joins_channels(node) or all(before[1] == after[1] for before in node.input_shapes)
    return all(_keeps_channels(before, node) for before in node.input_shapes)


def _keeps_channels(before: Shape, node: Node) -> bool:
    after = node.output_shapes[0]
    if node.operator.startswith(("Permute", "Transpose")):
        return False
    return before[1] in (1, after[1]) or (node.operation is Operation.RESHAPE and _flattens(before, after))


def _splits_channels(node: Node) -> bool:
    return any(shape[1] != node.input_shapes[0][1] for shape in node.output_shapes)


def _joins_channels(node: Node) -> bool:
    return sum(shape[1] for shape in node.input_shapes) == node.output_shapes[0][1]


def _flattens(before: Shape, after: Shape) -> bool:
    return len(before) > 2 and len(after) == 2 and before[0] == after[0]


def _is_broadcast(dependency: Dependency) -> bool:
    if dependency.position >= len(dependency.target.input_shapes):
        return False
    before, after = dependency.target.input_shapes[dependency.position], dependency.target.output_shapes[0]
    return len(before) == len(after) > 1 and before[1] == 1 != after[1]
