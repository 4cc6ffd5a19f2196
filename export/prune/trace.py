"""Groups of coupled channels: the dependency graph, resolved channel by channel.

torch-pruning couples whole layers. If a split feeds parts of a layer to different places (MSL, Fourier convolutions),
its groups overlap. Here every channel of every layer is a vertex, every dependency a set of edges, and the connected
components are the units that can be removed independently.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from edgeact.errors import ModelError
from edgeact.export.models.hooks import evaluated
from edgeact.export.models.pruning.apply import channel_count
from edgeact.export.models.pruning.plan import Side
from edgeact.export.models.pruning.prunable import Prunable
from edgeact.export.prune.channel_map import Indices, is_followed, map_channels
from edgeact.export.prune.dependency_graph import ChannelTap, Node, Operation, trace_dependencies
from edgeact.export.prune.surrogates import surrogates
from edgeact.extras import require
from edgeact.pruning_reasons import KeepReason, ReasonKind

__all__ = ["ChannelGroup", "GroupKey", "GroupMember", "LayerSide", "TracedChannels", "trace_channels"]

LayerSide = tuple[str, Side]
GroupKey = frozenset[tuple[str, Side, int]]

_WEIGHTED = (_ConvNd, nn.Linear)


@dataclass(frozen=True, eq=False)
class GroupMember:
    """One side of one layer in a group of coupled channels."""

    layer: str
    side: Side
    channels: Indices
    """`(units, channels per unit)`: the channels of this side that belong to each unit."""


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Units of coupled channels with the same layers; each unit can be removed alone."""

    members: tuple[GroupMember, ...]
    partitions: Indices
    """`(units,)`: equally many units must be removed from each partition, so that grouped convolutions stay even."""

    @property
    def size(self) -> int:
        """Number of units."""
        return len(self.partitions)

    @property
    def key(self) -> GroupKey:
        """The layers' sides with their channels per unit; unchanged by the removal of units."""
        return frozenset((member.layer, member.side, member.channels.shape[1]) for member in self.members)

    @property
    def partition_count(self) -> int:
        """Number of partitions: the least number of units that can be removed."""
        return int(self.partitions.max()) + 1

    @property
    def output_layers(self) -> list[str]:
        """The layers whose output channels belong to the group."""
        return [member.layer for member in self.members if member.side == "outputs"]


@dataclass(frozen=True, eq=False)
class TracedChannels:
    """All groups of a module, and the layers that keep all output channels."""

    groups: tuple[ChannelGroup, ...]
    kept: Mapping[str, KeepReason]
    """By layer."""
    widths: Mapping[LayerSide, int]
    """Number of channels of every side, prunable or not."""


def trace_channels(module: nn.Module, input_shape: Sequence[int]) -> TracedChannels:
    """Run `module` once in evaluation mode on a clip of `input_shape` and group its channels; `module` is unchanged.

    Raises ModelError if autograd records nothing of the run.
    """
    layers = {layer: name for name, layer in module.named_modules()}
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    clip = torch.zeros(tuple(input_shape), device=device, requires_grad=True) * 1
    outputs: list[Tensor] = []

    def run(network: nn.Module, x: Tensor) -> list[Tensor]:
        outputs.append(network(x))
        return [outputs[0], *untied]

    with evaluated(module), torch.enable_grad(), surrogates(module) as untied:
        nodes = trace_dependencies(module, clip, run)
    if not isinstance(outputs[0].grad_fn, torch.autograd.graph.Node):
        raise ModelError(
            f"'{type(module).__name__}' has nothing to prune: expected an output that depends on parameters by "
            "autograd, got one without a gradient; remove detach() and no_grad() from its forward"
        )
    ends: dict[object, ReasonKind] = {outputs[0].grad_fn: ReasonKind.model_output, clip.grad_fn: ReasonKind.model_input}
    coupled = _CoupledChannels(nodes, layers)
    obstacles = {port: reason for port in coupled.numbers if (reason := _obstacle(port, ends, layers))}
    return _group(coupled, obstacles, module)


class _Port(NamedTuple):
    """One side of one node."""

    node: Node
    side: Side


class _CoupledChannels:
    """Every channel that is coupled with an output channel of a layer, as a number; couplings as pairs of numbers."""

    def __init__(self, nodes: Sequence[Node], layers: Mapping[nn.Module, str]) -> None:
        self.layers = layers
        self.numbers: dict[_Port, dict[int, int]] = defaultdict(dict)
        self.pairs: list[tuple[int, int]] = []
        self.count = 0
        by_layer = {node.layer: node for node in nodes}
        for layer in layers:
            if isinstance(layer, _WEIGHTED) and layer in by_layer:
                self._follow(_Port(by_layer[layer], "outputs"), np.arange(channel_count(layer, "outputs") or 0))

    def _follow(self, start: _Port, channels: Indices) -> None:
        waiting = [(start, self._add(start, channels))]
        while waiting:
            port, new = waiting.pop()
            for other, pairs in _neighbors(port, new) if len(new) else ():
                waiting.append((other, self._add(other, pairs[:, 1])))
                near, far = self.numbers[port], self.numbers[other]
                self.pairs += [(near[channel], far[partner]) for channel, partner in pairs.tolist()]

    def _add(self, port: _Port, channels: Indices) -> Indices:
        """Number the channels of a port that have no number yet, and return them."""
        numbers = self.numbers[port]
        new = [channel for channel in dict.fromkeys(channels.tolist()) if channel not in numbers]
        numbers.update({channel: self.count + index for index, channel in enumerate(new)})
        self.count += len(new)
        return np.array(new, np.int64)

    def components(self) -> Indices:
        """Return `(channels,)`: the unit that each channel belongs to, by the channels' numbers."""
        sparse = require("scipy.sparse", "export")
        rows, columns = np.array(self.pairs, np.int64).reshape(-1, 2).T
        matrix = sparse.coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(self.count, self.count))
        labels: Indices = require("scipy.sparse.csgraph", "export").connected_components(matrix, directed=False)[1]
        return labels

    def sides(self) -> Iterator[tuple[LayerSide, _Port]]:
        """Yield the sides of layers with parameters that pruning cuts, and of tapped modules."""
        for port in self.numbers:
            layer = port.node.layer
            if isinstance(layer, ChannelTap):
                yield (layer.name, "outputs"), port
            elif isinstance(layer, (*_WEIGHTED, _BatchNorm)) and layer in self.layers:
                yield (self.layers[layer], port.side), port


def _neighbors(port: _Port, channels: Indices) -> Iterator[tuple[_Port, Indices]]:
    """Yield the ports coupled with `channels` of `port`, with `(pairs, 2)`: channel here, channel there."""
    node = port.node
    if port.side == node.input_side:
        for dependency in node.inputs:
            pairs = map_channels(dependency).backward(channels)
            yield _Port(dependency.source, "outputs"), pairs[:, ::-1]
    if port.side == "outputs":
        for dependency in node.outputs:
            yield _Port(dependency.target, dependency.target.input_side), map_channels(dependency).forward(channels)


def _width(port: _Port) -> int:
    layer = port.node.layer
    if isinstance(layer, ChannelTap):
        return layer.channels
    return (layer and channel_count(layer, port.side)) or 0


def _obstacle(port: _Port, ends: Mapping[object, ReasonKind], layers: Mapping[nn.Module, str]) -> KeepReason | None:
    """Return why all channels of a port must remain; None if nothing keeps them."""
    node, layer = port.node, port.node.layer
    if node.gradient in ends and port.side == "outputs":
        return KeepReason(ends[node.gradient])
    if not is_followed(node):
        return KeepReason(ReasonKind.not_followed, node.operator)
    if node.operation is Operation.PARAMETER:
        return KeepReason(ReasonKind.free_parameter)
    if isinstance(layer, _ConvNd) and layer.transposed:
        return KeepReason(ReasonKind.transposed, layers[layer])
    if layer is None or isinstance(layer, (*_WEIGHTED, _BatchNorm, ChannelTap)) or layer not in layers:
        return None
    if next(layer.parameters(), None) is not None:
        return KeepReason(ReasonKind.unsupported_layer, f"'{layers[layer]}', a {type(layer).__name__}")
    return None


def _group(coupled: _CoupledChannels, obstacles: Mapping[_Port, KeepReason], module: nn.Module) -> TracedChannels:
    """Collect units with the same layers in groups, and the layers of units with an obstacle."""
    labels = coupled.components()
    blocked = {
        int(labels[number]): reason for port, reason in obstacles.items() for number in coupled.numbers[port].values()
    }
    units: dict[int, dict[LayerSide, list[int]]] = defaultdict(dict)
    for side, port in coupled.sides():
        for channel, number in sorted(coupled.numbers[port].items()):
            units[int(labels[number])].setdefault(side, []).append(channel)
    kept: dict[str, KeepReason] = {}
    alike: dict[tuple[tuple[LayerSide, int], ...], list[dict[LayerSide, list[int]]]] = defaultdict(list)
    for label, unit in units.items():
        if label in blocked:
            kept |= {name: blocked[label] for name, side in unit if side == "outputs"}
        else:
            alike[tuple((side, len(channels)) for side, channels in unit.items())].append(unit)
    groups = []
    for kind, same in alike.items():
        members = tuple(GroupMember(*side, np.array([unit[side] for unit in same])) for side, _ in kind)
        group = _partitioned(members, module)
        if isinstance(group, KeepReason):
            kept |= {member.layer: group for member in members if member.side == "outputs"}
        else:
            groups.append(group)
    widths = {side: _width(port) for side, port in coupled.sides()}
    kept = {**_unreached(module, {name for name, _side in widths}), **kept}
    weighted = {name: kept[name] for name in kept if isinstance(module.get_submodule(name), _WEIGHTED)}
    return TracedChannels(tuple(groups), MappingProxyType(weighted), MappingProxyType(widths))


def _unreached(module: nn.Module, reached: set[str]) -> dict[str, KeepReason]:
    """Return why no path of the dependency graph leads to each of the layers that are not `reached`."""
    inside = tuple(f"{name}." for name, part in module.named_modules() if isinstance(part, Prunable))
    return {
        name: KeepReason(ReasonKind.no_channel_parameters if name.startswith(inside) else ReasonKind.not_reached)
        for name, _ in module.named_modules()
        if name not in reached
    }


def _partitioned(members: tuple[GroupMember, ...], module: nn.Module) -> ChannelGroup | KeepReason:
    """Assign units to the groups of grouped convolutions; a reason if they cannot be removed evenly."""
    group_of_unit = []
    for member in members:
        layer = module.get_submodule(member.layer)
        if not isinstance(layer, _ConvNd) or layer.groups == 1:
            continue
        if layer.groups == layer.in_channels == layer.out_channels:  # depthwise: one channel per group
            continue
        width = channel_count(layer, member.side) or 0
        if member.channels.size != width or member.channels.shape[1] != 1:
            return KeepReason(ReasonKind.partly_coupled, member.layer)
        group_of_unit.append(member.channels[:, 0] // (width // layer.groups))
    if not group_of_unit:
        return ChannelGroup(members, np.zeros(len(members[0].channels), np.int64))
    _, partitions, counts = np.unique(np.stack(group_of_unit), axis=1, return_inverse=True, return_counts=True)
    if len(set(counts.tolist())) > 1:
        return KeepReason(ReasonKind.uneven_groups)
    return ChannelGroup(members, partitions.reshape(-1).astype(np.int64))
