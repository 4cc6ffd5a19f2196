"""Adapter of torch-pruning 1.6: the only module that imports the library, behind typed values.

The library traces which layers and operators depend on each other, and scores channels. Its channel indices are not
used: it guesses the sizes of splits, concatenations and reshapes from neighboring layers, in the order of its search,
and maps indices of split followed by concatenation in the same order both ways. `channel_map` has autograd's shapes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from torch import Tensor, nn

from edgeact.export.models.pruning.plan import Importance, Side
from edgeact.extras import require

__all__ = [
    "ChannelTap",
    "Dependency",
    "Node",
    "Operation",
    "ScoredSide",
    "Shape",
    "score_channels",
    "trace_dependencies",
]

Shape = tuple[int, ...]


class ChannelTap(nn.Module):
    """An identity that appears in the graph as a layer of its own, so that channels passing a module are seen."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        """Path of the module."""
        self.channels = 0
        """Channels of the latest input."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, `(N, C, ...)`."""
        self.channels = x.shape[1]
        return x * 1


class Operation(Enum):
    """What a node does with channels."""

    LAYER = "layer"
    PARAMETER = "parameter"
    ELEMENTWISE = "elementwise"
    SPLIT = "split"
    CONCAT = "concat"
    RESHAPE = "reshape"
    OTHER = "other"
    """An operator that keeps its input's channels or is not followed: slice, unbind, expand."""
    OUTPUT = "output"


@dataclass(eq=False)
class Node:
    """A layer, a parameter outside of all layers, or an operator of autograd."""

    operation: Operation
    layer: nn.Module | None
    """The layer, if the operation is LAYER."""
    operator: str
    """Autograd's name; empty if autograd has no record of the node."""
    gradient: object
    """Autograd's node, for comparison by identity."""
    input_shapes: tuple[Shape, ...]
    """Shape of every dependency in `inputs`, in their order."""
    output_shapes: tuple[Shape, ...]
    """Shape of the output; of a split, the shape of every part."""
    two_sided: bool
    """Input channels are pruned apart from output channels, as in a convolution; else both are "outputs"."""
    inputs: list[Dependency] = field(default_factory=list)
    outputs: list[Dependency] = field(default_factory=list)

    @property
    def input_side(self) -> Side:
        """Side that dependencies in `inputs` are coupled with."""
        return "inputs" if self.two_sided else "outputs"


@dataclass(frozen=True, eq=False)
class Dependency:
    """A tensor that goes from `source` to `target`: their channels are coupled."""

    source: Node
    target: Node
    position: int
    """Index of the target's input."""
    part: int | None
    """Index of the source's output; None if the target is called several times."""


def trace_dependencies(
    module: nn.Module, clip: Tensor, forward: Callable[[nn.Module, Tensor], Sequence[Tensor]]
) -> tuple[Node, ...]:
    """Run `forward(module, clip)` once in evaluation mode under autograd; return all that its results depend on."""
    library: Any = require("torch_pruning", "export")
    graph = library.DependencyGraph()
    graph.register_customized_layer(ChannelTap, _tap_pruner(library))
    graph.build_dependency(module, clip, forward_fn=forward, verbose=False)
    traced = list(graph.module2node.values())
    nodes = {raw: _node(raw, graph) for raw in traced}
    for raw in traced:
        operands = _operands(raw, graph)
        for position, source in enumerate(raw.inputs):
            part = operands[position].part if len(operands) == len(raw.inputs) else None
            nodes[raw].inputs.append(Dependency(nodes[source], nodes[raw], position, part))
    for raw in traced:
        ends: dict[Node, list[Dependency]] = defaultdict(list)
        for target in dict.fromkeys(nodes[after] for after in raw.outputs):
            ends[target] = [dependency for dependency in target.inputs if dependency.source is nodes[raw]]
        nodes[raw].outputs += [ends[nodes[after]].pop(0) for after in raw.outputs]
    return tuple(nodes.values())


@dataclass(frozen=True)
class _Operand:
    part: int
    shape: Shape


def _node(raw: Any, graph: Any) -> Node:
    operation = _operation(raw, graph)
    pruner = graph.get_pruner_of_module(raw.module)
    gradient = raw.grad_fn if hasattr(raw.grad_fn, "next_functions") else None
    return Node(
        operation=operation,
        layer=raw.module if operation is Operation.LAYER else None,
        operator=gradient.name() if gradient is not None else "",
        gradient=raw.grad_fn,
        input_shapes=tuple(operand.shape for operand in _operands(raw, graph)),
        output_shapes=tuple(tuple(output.shape) for output in getattr(raw.grad_fn, "_input_metadata", ())),
        two_sided=pruner.prune_in_channels != pruner.prune_out_channels,
    )


def _operation(raw: Any, graph: Any) -> Operation:
    if isinstance(raw.module, nn.Parameter):
        return Operation.PARAMETER
    if not type(raw.module).__module__.startswith("torch_pruning"):
        return Operation.LAYER
    name = graph.ops.OPTYPE(raw.type).name
    return Operation[name] if name in Operation.__members__ else Operation.OTHER


def _operands(raw: Any, graph: Any) -> list[_Operand]:
    """Return the tensors that go into a node, in the order of `raw.inputs`: constants and layers' weights left out."""
    operands = []
    for function, part in getattr(raw.grad_fn, "next_functions", ()):
        leaf = getattr(function, "variable", None)
        if function is not None and (leaf is None or leaf in graph.module2node):
            operands.append(_Operand(part, tuple(function._input_metadata[part].shape)))
    return operands


def _tap_pruner(library: Any) -> Any:
    """Return the library's view of a tap: output channels are input channels."""

    class TapPruner(library.BasePruningFunc):  # type: ignore[misc]  # the base class is known at run time only
        def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
            return layer

        prune_in_channels = prune_out_channels

        def get_out_channels(self, layer: ChannelTap) -> int:
            return layer.channels

        get_in_channels = get_out_channels

    return TapPruner()


@dataclass(frozen=True, eq=False)
class ScoredSide:
    """Channels of one side of a layer, and the unit of coupled channels that each belongs to."""

    layer: nn.Module
    side: Side
    channels: tuple[int, ...]
    """Ascending."""
    units: tuple[int, ...]


_MEASURES: dict[Importance, tuple[str, dict[str, int]]] = {
    "l2": ("GroupMagnitudeImportance", {"p": 2}),
    "taylor": ("GroupTaylorImportance", {}),
    "bn-scale": ("BNScaleImportance", {}),
}


def score_channels(importance: Importance, sides: Iterable[ScoredSide]) -> Tensor | None:
    """Score units by the library's measure, averaged over `sides`; `(units,)` or longer.

    Returns None if the measure looks at none of the layers, as `bn-scale` does without batch norms.
    """
    library: Any = require("torch_pruning", "export")
    name, options = _MEASURES[importance]
    graph, group = library.DependencyGraph(), library.Group()
    for side in sides:
        pruner, node = graph.get_pruner_of_module(side.layer), library.Node(side.layer, None)
        function = pruner.prune_out_channels if side.side == "outputs" else pruner.prune_in_channels
        group.add_dep(library.Dependency(function, function, source=node, target=node), list(side.channels))
        group[-1].root_idxs = list(side.units)
    scores: Tensor | None = getattr(library.importance, name)(normalizer=None, **options)(group)
    return scores
