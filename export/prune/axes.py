"""Where channels go in splits, concatenations and reshapes, by the shapes that autograd remembers.

torch-pruning guesses these from what surrounds them, and in its order of search. The shapes are exact.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from math import prod
from typing import Any

__all__ = ["map_axes"]

Shape = tuple[int, ...]

_NOT_FOLLOWED = "the graph does not follow their axis through {}"


def map_axes(graph: Any, pruning: Any) -> dict[Any, str]:
    """Set every index mapping of `graph`; nodes through which channels cannot be followed, with the reason."""
    kinds = pruning.ops.OPTYPE
    nodes = list(graph.module2node.values())
    for node in nodes:
        if node.type == kinds.SPLIT:
            _put_in_order(node, pruning)
        for dependency in node.dependencies:
            dependency.index_mapping = [None, None]
    for node in nodes:
        if node.type == kinds.SPLIT and _shapes(node, graph)[0][1] != _shape(node)[1]:
            pruning.dependency.index_mapping.update_split_index_mapping(graph, node)
        elif node.type == kinds.CONCAT:
            _map_concatenation(node, graph, pruning)
        elif node.type == kinds.RESHAPE and _flattens(_shapes(node, graph)[0], _shape(node)):
            _map_flattening(node, graph, pruning)
        elif node.type == kinds.ELEMENTWISE and not _is_module(node):
            _cut_broadcasts(node, graph)
    return {node: reason for node in nodes if (reason := _lost(node, graph, kinds))}


def _put_in_order(split: Any, pruning: Any) -> None:
    """Sort what follows a split by the part it takes."""
    parts = {
        number: taker
        for taker in split.outputs
        for function, number in taker.grad_fn.next_functions
        if function is split.grad_fn
    }
    unused = pruning.ops._ElementWiseOp
    count = len(split.module.split_sizes or parts)
    split.outputs = [parts.get(number) or type(split)(unused(-1, "unused"), None) for number in range(count)]


def _shapes(node: Any, graph: Any) -> list[Shape]:
    """Of what goes into a node, as far as it is part of the graph, in the order of `node.inputs`."""
    shapes = []
    for function, number in node.grad_fn.next_functions:
        leaf = getattr(function, "variable", None)
        if function is not None and (leaf is None or leaf in graph.module2node):
            shapes.append(tuple(function._input_metadata[number].shape))
    return shapes


def _shape(node: Any) -> Shape:
    return tuple(node.grad_fn._input_metadata[0].shape)


def _map_concatenation(node: Any, graph: Any, pruning: Any) -> None:
    sizes = [shape[1] for shape in _shapes(node, graph)]
    if sum(sizes) != _shape(node)[1]:
        return  # along another axis
    mapping = pruning.dependency.index_mapping._ConcatIndexMapping
    mapped: set[int] = set()
    for place, (taken, offset) in enumerate(zip(node.inputs, pairwise(accumulate(sizes, initial=0)), strict=True)):
        node.dependencies[place].index_mapping[1] = mapping(offset, reverse=True)
        there = next(one for one in taken.dependencies if one.target is node and id(one) not in mapped)
        there.index_mapping[1] = mapping(offset)
        mapped.add(id(there))


def _map_flattening(node: Any, graph: Any, pruning: Any) -> None:
    """`(N, C, ...)` -> `(N, C * rest)`: every channel becomes as many neighbours as it has values."""
    mapping = pruning.dependency.index_mapping._FlattenIndexMapping
    stride = prod(_shapes(node, graph)[0][2:])
    node.dependencies[0].index_mapping[0] = mapping(stride, reverse=True)
    for dependency in node.inputs[0].dependencies:
        if dependency.target is node:
            dependency.index_mapping[0] = mapping(stride)


def _cut_broadcasts(node: Any, graph: Any) -> None:
    """One channel that is spread over many is no partner of the first of them."""
    if not hasattr(node.grad_fn, "next_functions"):
        return
    after = _shape(node)
    for place, before in enumerate(_shapes(node, graph)):
        if len(before) == len(after) > 1 and before[1] == 1 != after[1]:
            node.dependencies[place].index_mapping[0] = _nowhere
            for dependency in node.inputs[place].dependencies:
                if dependency.target is node:
                    dependency.index_mapping[0] = _nowhere


def _nowhere(indices: list[Any]) -> list[Any]:
    return []


def _flattens(before: Shape, after: Shape) -> bool:
    return len(before) > 2 and len(after) == 2 and before[0] == after[0]


def _lost(node: Any, graph: Any, kinds: Any) -> str | None:
    """Why channels cannot be followed through a node, if so."""
    if node.type not in (kinds.ELEMENTWISE, kinds.RESHAPE, kinds.SLICE, kinds.UNBIND, kinds.EXPAND, kinds.SPLIT):
        return None
    if node.grad_fn is None or not hasattr(node.grad_fn, "next_functions") or _is_module(node):
        return None
    name, after = node.grad_fn.name(), _shape(node)
    for before in _shapes(node, graph):
        if min(len(before), len(after)) < 2:
            return _NOT_FOLLOWED.format(name)
        kept = before[1] in (1, after[1])
        flat = node.type == kinds.RESHAPE and _flattens(before, after)
        split = node.type == kinds.SPLIT
        if not (kept or flat or split) or name.startswith(("Permute", "Transpose")):
            return _NOT_FOLLOWED.format(name)
    return None


def _is_module(node: Any) -> bool:
    return not type(node.module).__module__.startswith("torch_pruning")
