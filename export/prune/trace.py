"""Which channels stand and fall together: torch-pruning's dependency graph, resolved channel by channel.

torch-pruning answers for whole layers. Where a split feeds parts of a layer to different places (MSL, Fourier
convolutions), its answers overlap, so here every single channel of every layer is a node, every dependency an edge,
and the connected components are what can be taken out one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from edgeact.errors import ModelError
from edgeact.export.prune.axes import map_axes
from edgeact.export.prune.surrogates import Follower, standing_in
from edgeact.extras import require

__all__ = ["ChannelGroup", "GroupKey", "Member", "Traced", "trace"]

Side = Literal["outputs", "inputs"]
Indices = npt.NDArray[np.int64]
GroupKey = frozenset[tuple[str, Side, int]]

_IS_OUTPUT = "they are the model's output"
_IS_INPUT = "they are added to the model's input"
_MISCOUNTED = "they meet '{}', whose channels the dependency graph miscounts"
_NOT_REACHED = "the dependency graph does not reach it"


@dataclass(frozen=True)
class Member:
    """One side of one layer in a family."""

    layer: str
    side: Side
    slots: Indices
    """`(units, channels a unit)`: which of the side's channels belong to which unit."""


@dataclass(frozen=True)
class ChannelGroup:
    """Units of channels that hang on the same layers; each can be taken out alone."""

    members: tuple[Member, ...]
    buckets: Indices
    """`(units,)`: units are taken out in equal numbers of every bucket, for grouped convolutions."""

    @property
    def size(self) -> int:
        """Number of units."""
        return len(self.buckets)

    @property
    def key(self) -> GroupKey:
        """What it hangs on; the same after some of its units are gone."""
        return frozenset((member.layer, member.side, member.slots.shape[1]) for member in self.members)

    @property
    def bucket_count(self) -> int:
        """How many units go at least, and in what multiples."""
        return int(self.buckets.max()) + 1


@dataclass(frozen=True)
class Traced:
    """All families of a module, and the layers that keep their outputs, with the reason."""

    families: tuple[ChannelGroup, ...]
    skipped: dict[str, str]
    handlers: dict[tuple[str, Side], Any]
    """torch-pruning's node and pruning function by member, for its importances."""
    widths: dict[tuple[str, Side], int]
    """Channels of every member, those that stay whatever happens included."""


def trace(module: nn.Module, input_shape: Sequence[int]) -> Traced:
    """Run `module` once in evaluation mode and follow its channels; it is left as it was.

    Raises ModelError where autograd sees nothing of it.
    """
    pruning = require("torch_pruning", "export")
    skipped: dict[str, str] = {}
    training = module.training
    clip = torch.zeros(tuple(input_shape), device=_device(module), requires_grad=True) * 1
    names = {layer: name for name, layer in module.named_modules()}
    ends: list[Tensor] = []

    def run(network: nn.Module, x: Tensor) -> list[Tensor]:
        ends.append(network(x))
        return [ends[0], *loose_ends]

    try:
        with torch.enable_grad(), standing_in(module, skipped) as loose_ends:
            graph = pruning.DependencyGraph()
            graph.register_customized_layer(Follower, _follower_pruner(pruning))
            graph.build_dependency(module, clip, forward_fn=run, verbose=False)
    finally:
        module.train(training)
    if not isinstance(ends[0].grad_fn, torch.autograd.graph.Node):
        raise ModelError("this model's output does not depend on any parameter by autograd; there is nothing to prune")
    lost = map_axes(graph, pruning)
    return _families(_Channels(graph, names, _ends_of(graph, ends[0], clip), lost), module, skipped)


def _device(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _follower_pruner(pruning: Any) -> Any:
    """Lets channels through one by one: inputs are outputs."""

    class FollowerPruner(pruning.BasePruningFunc):  # type: ignore[misc]  # the base is known at run time only
        def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
            return layer

        prune_in_channels = prune_out_channels

        def get_out_channels(self, layer: Follower) -> int:
            return layer.width

        get_in_channels = get_out_channels

    return FollowerPruner()


def _ends_of(graph: Any, output: Tensor, clip: Tensor) -> dict[Any, str]:
    """Nodes whose channels are given from outside."""
    given = {output.grad_fn: _IS_OUTPUT, clip.grad_fn: _IS_INPUT}
    return {node: given[node.grad_fn] for node in graph.module2node.values() if node.grad_fn in given}


class _Slot(NamedTuple):
    node: Any
    handler: Any


class _Channels:
    """Every channel of every layer by number, and the edges between those that depend on each other."""

    def __init__(self, graph: Any, names: dict[nn.Module, str], ends: dict[Any, str], lost: dict[Any, str]) -> None:
        self.graph, self.names, self.ends, self.lost = graph, names, ends, lost
        pruning = require("torch_pruning", "export")
        self.hybrid, self.concatenation = pruning._helpers._HybridIndex, pruning.ops.OPTYPE.CONCAT
        self.numbers: dict[_Slot, dict[int, int]] = defaultdict(dict)
        self.edges: list[tuple[int, int]] = []
        self.count = 0
        for layer in names:
            if isinstance(layer, (_ConvNd, nn.Linear)) and layer in graph.module2node:
                handler = graph.get_pruner_of_module(layer).prune_out_channels
                self._follow(_Slot(graph.module2node[layer], handler), range(graph.get_out_channels(layer)))

    def _follow(self, start: _Slot, indices: Sequence[int]) -> None:
        waiting = [(start, self._enter(start, indices))]
        while waiting:
            slot, fresh = waiting.pop()
            own = self.numbers[slot]
            for dependency in slot.node.dependencies if fresh else ():
                if not dependency.is_triggered_by(slot.handler):
                    continue
                moved = [self.hybrid(idx=index, root_idx=index) for index in fresh]
                for mapping in self._in_order(dependency):
                    moved = mapping(moved)
                other = _Slot(dependency.target, dependency.handler)
                waiting.append((other, self._enter(other, [index.idx for index in moved])))
                numbers = self.numbers[other]
                self.edges += [(own[index.root_idx], numbers[index.idx]) for index in moved]

    def _in_order(self, dependency: Any) -> list[Any]:
        """A dependency's mappings: the split's, then the concatenation's; on the way back the other way round.

        torch-pruning 1.6 takes the first order both ways, and ties channels together that have nothing in common.
        """
        mappings = [mapping for mapping in dependency.index_mapping if mapping is not None]
        back = dependency.source.type == self.concatenation and dependency.target in dependency.source.inputs
        return mappings[::-1] if back else mappings

    def _enter(self, slot: _Slot, indices: Sequence[int]) -> list[int]:
        """Number those of `indices` that are new."""
        numbers = self.numbers[slot]
        fresh = []
        for index in indices:
            if index not in numbers:
                numbers[index] = self.count
                self.count += 1
                fresh.append(index)
        return fresh

    def components(self) -> Indices:
        """`(channels,)`: which channels hang together."""
        sparse = require("scipy.sparse", "export")
        rows, columns = np.array(self.edges, np.int64).reshape(-1, 2).T
        matrix = sparse.coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(self.count, self.count))
        labels: Indices = require("scipy.sparse.csgraph", "export").connected_components(matrix, directed=False)[1]
        return labels

    def members(self) -> Iterator[tuple[str, Side, _Slot]]:
        """The sides of layers that have parameters."""
        for slot in self.numbers:
            layer = slot.node.module
            if isinstance(layer, Follower):
                yield layer.name, "outputs", slot
            elif isinstance(layer, (_ConvNd, nn.Linear, _BatchNorm)) and layer in self.names:
                pruner = self.graph.get_pruner_of_module(layer)
                yield self.names[layer], "outputs" if slot.handler == pruner.prune_out_channels else "inputs", slot

    def width(self, slot: _Slot, side: Side) -> int:
        """Channels of one side of a layer."""
        ask = self.graph.get_out_channels if side == "outputs" else self.graph.get_in_channels
        return int(ask(slot.node))

    def is_lost(self, side: Side, slot: _Slot) -> bool:
        """Whether the graph names channels that the layer does not have: a split of which a part is empty does so."""
        return max(self.numbers[slot], default=-1) >= self.width(slot, side)

    def obstacle(self, slot: _Slot) -> str | None:
        """Why channels that come by here must stay."""
        layer = slot.node.module
        if slot.node in self.ends and slot.handler == self.graph.get_pruner_of_module(layer).prune_out_channels:
            return self.ends[slot.node]
        if slot.node in self.lost:
            return self.lost[slot.node]
        if isinstance(layer, nn.Parameter):
            return "they meet a parameter that is in no layer"
        known = isinstance(layer, (_ConvNd, nn.Linear, _BatchNorm, Follower))
        if not known and layer in self.names and next(layer.parameters(), None) is not None:
            return f"they meet '{self.names[layer]}', a {type(layer).__name__}"
        if isinstance(layer, _ConvNd) and layer.transposed:
            return f"they meet '{self.names[layer]}', a transposed convolution"
        return None


def _obstacles(channels: _Channels, labels: Indices) -> dict[int, str]:
    """Why channels must stay, by their component."""
    found: dict[int, str] = {}
    for slot, numbers in channels.numbers.items():
        if reason := channels.obstacle(slot):
            found.update(dict.fromkeys(labels[list(numbers.values())].tolist(), reason))
    for name, side, slot in channels.members():
        if channels.is_lost(side, slot):
            numbers = channels.numbers[slot]
            found.update(dict.fromkeys(labels[list(numbers.values())].tolist(), _MISCOUNTED.format(name)))
    return found


def _families(channels: _Channels, module: nn.Module, skipped: dict[str, str]) -> Traced:
    labels = channels.components()
    obstacles = _obstacles(channels, labels)
    units: dict[int, dict[tuple[str, Side], list[int]]] = defaultdict(dict)
    handlers: dict[tuple[str, Side], Any] = {}
    widths: dict[tuple[str, Side], int] = {}
    for name, side, slot in channels.members():
        handlers[name, side] = slot
        widths[name, side] = channels.width(slot, side)
        for index, number in sorted(channels.numbers[slot].items()):
            units[int(labels[number])].setdefault((name, side), []).append(index)
    kinds: dict[tuple[tuple[tuple[str, Side], int], ...], list[int]] = defaultdict(list)
    for label, parts in units.items():
        if label in obstacles:
            named = [name for name, side in parts if side == "outputs"]
            skipped.update(
                {name: obstacles[label] for name in named if isinstance(module.get_submodule(name), _WEIGHED)}
            )
        else:
            kinds[tuple((key, len(indices)) for key, indices in parts.items())].append(label)
    families = []
    for kind, found in kinds.items():
        members = tuple(Member(*key, np.array([units[label][key] for label in found])) for key, _ in kind)
        families.append(_bucketed(members, module, skipped))
    reached = {name for name, _, _ in channels.members()} | set(skipped)
    for name, layer in module.named_modules():
        if isinstance(layer, _WEIGHED) and name not in reached:
            skipped[name] = _NOT_REACHED
    return Traced(tuple(family for family in families if family), skipped, handlers, widths)


_WEIGHED = (_ConvNd, nn.Linear)


def _bucketed(members: tuple[Member, ...], module: nn.Module, skipped: dict[str, str]) -> ChannelGroup | None:
    """A family with its units assigned to the groups of grouped convolutions; None where they do not go up evenly."""
    size = len(members[0].slots)
    keys = []
    for member in members:
        layer = module.get_submodule(member.layer)
        groups = layer.groups if isinstance(layer, _ConvNd) else 1
        if groups == 1 or not isinstance(layer, _ConvNd) or groups == layer.in_channels == layer.out_channels:
            continue
        width = layer.out_channels if member.side == "outputs" else layer.in_channels
        if member.slots.size != width or member.slots.shape[1] != 1:
            reason = f"only some of the channels of the grouped convolution '{member.layer}' hang together with them"
            skipped.update({other.layer: reason for other in members if other.side == "outputs"})
            return None
        keys.append(member.slots[:, 0] // (width // groups))
    if not keys:
        return ChannelGroup(members, np.zeros(size, np.int64))
    _, buckets, counts = np.unique(np.stack(keys), axis=1, return_inverse=True, return_counts=True)
    if len(set(counts.tolist())) > 1:
        skipped.update(
            {m.layer: "grouped convolutions cut its channels unevenly" for m in members if m.side == "outputs"}
        )
        return None
    return ChannelGroup(members, buckets.reshape(-1).astype(np.int64))
