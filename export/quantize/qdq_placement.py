"""Q/DQ where a CPU's INT8 kernels want them: features stay integers from one layer to the next.

`static` puts Q/DQ around every layer, the form that all TensorRT releases fuse. A CPU executes it as it stands: two
roundings a layer, a step of its own for every piece of a split, sums in float between integers. Here

* what is only moved (split, joined, pooled by its maximum, reshaped) is rounded once, where it is made, in one step for
  all that is joined, so that pieces are copied and never rounded anew;
* what cannot be negative is rounded to unsigned numbers, and the ReLU before it is part of the rounding. The step stays
  that of int8: processors without VNNI add two products in 16 bits, and 2 * 255 * 127 is more than they hold;
* sums of rounded features are of integers; only a layer's own output is added unrounded, by its kernel.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgeact.calibration.ranges import INT8_MAX, Ranges
from edgeact.export.graph.torch_to_onnx import drop_unused_initializers
from edgeact.export.graph.view import GraphView, view
from edgeact.export.quantize.activation_ranges import QUANTIZED_OPS

__all__ = ["integer_flow"]

_MOVING = (
    *("Split", "Concat", "MaxPool", "ReduceMax", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice"),
    "Identity",
)
_TURNING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity")
_NEVER_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Clip")
_KEEP_SIGN = (*_MOVING, "Add", "Mul", "ReduceMean", "ReduceSum", "AveragePool", "GlobalAveragePool")

Observe = Callable[[Mapping[str, str]], Ranges]


@dataclass(frozen=True)
class _Step:
    """How one group of tensors is rounded."""

    scale: float
    unsigned: bool


def integer_flow(quantized: onnx.ModelProto, ranges: Ranges, observe: Observe) -> onnx.ModelProto:
    """A copy of what `static.quantize` made, with the same layers in INT8 and Q/DQ as said above.

    Steps follow from those in `quantized` and, where a ReLU cuts them, from `ranges`; `observe` gives the ranges of the
    tensors (tensor -> what it is) that do not.
    """
    model = onnx.ModelProto()
    model.CopyFrom(quantized)
    layers, limits = _take_out(model)
    graph = view(model)
    groups = _Groups(graph)
    wanted = dict.fromkeys(groups.of(name) for name in _to_round(graph, layers))
    sources = {name: group for group in wanted for name in groups.sources(group)}
    known = _Limits(graph, limits, ranges)
    found = {name: known.of(name) for name in sources}
    unknown = [name for name, limit in found.items() if limit is None]
    if unknown:
        seen = observe(dict.fromkeys(unknown, "features between layers"))
        found |= {name: seen.tensors[name].limit for name in unknown}
    steps = {group: _step(graph, {name: found[name] or 0 for name in groups.sources(group)}) for group in wanted}
    for name, group in sources.items():
        _insert(model, name, steps[group])
    drop_unused_initializers(model)
    return model


def _take_out(model: onnx.ModelProto) -> tuple[set[str], dict[str, float]]:
    """Remove the Q/DQ pairs of activations; the names of the layers that read one, and what each pair could hold."""
    graph = view(model)
    rounded = {
        node.output[0]: node
        for node in graph.nodes
        if node.op_type == "QuantizeLinear" and node.input[0] not in graph.constants
    }
    restored = {
        node.output[0]: rounded[node.input[0]].input[0]
        for node in graph.nodes
        if node.op_type == "DequantizeLinear" and node.input[0] in rounded
    }
    limits = {node.input[0]: _held(graph, node) for node in rounded.values()}
    kept = [node for node in graph.nodes if not (rounded.keys() | restored.keys()) & set(node.output)]
    layers = {node.name for node in kept if node.op_type in QUANTIZED_OPS and node.input[0] in restored}
    for old, new in restored.items():
        _rename(kept, old, new)
    for value in model.graph.output:  # a result of the graph keeps its name
        if (made := restored.get(value.name)) is not None:
            _rename(kept, made, value.name)
            maker = next(node for node in kept if made in node.output)
            maker.output[list(maker.output).index(made)] = value.name
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return layers, limits


def _held(graph: GraphView, node: NodeProto) -> float:
    scale = graph.constant(node.input[1])
    return 0.0 if scale is None else float(scale) * INT8_MAX


def _rename(nodes: Iterable[NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def _to_round(graph: GraphView, layers: set[str]) -> list[str]:
    """Return what the layers read, and what is added to an output of one of them, in the graph's order.

    The order decides that of the constants in the file: equal graphs give equal bytes in every process.
    """
    names = [name for node in graph.nodes if node.name in layers for name in node.input]
    for node in graph.nodes:
        if node.op_type == "Add":
            made = [name for name in node.input if _maker(graph, name) in layers]
            names += [name for name in node.input if made and name != made[0]]
    return [name for name in dict.fromkeys(names) if _is_feature(graph, name)]


def _maker(graph: GraphView, name: str) -> str | None:
    node = graph.producers.get(name)
    return None if node is None else node.name


def _is_feature(graph: GraphView, name: str) -> bool:
    return name not in graph.constants and graph.source(name) not in graph.constants


class _Groups:
    """Tensors that only moving operators stand between: they share one step."""

    def __init__(self, graph: GraphView) -> None:
        self._graph = graph
        self._parents: dict[str, str] = {}
        self._members: dict[str, list[str]] = defaultdict(list)
        for node in graph.nodes:
            if node.op_type in _MOVING:
                joined = node.input if node.op_type == "Concat" else node.input[:1]
                names = [name for name in (*joined, *node.output) if _is_feature(graph, name)]
                for name in names[1:]:
                    self._parents[self.of(name)] = self.of(names[0])
        for node in graph.nodes:
            for name in (*node.input, *node.output):
                if name not in self._members[self.of(name)]:
                    self._members[self.of(name)].append(name)

    def of(self, name: str) -> str:
        """The name that stands for the tensor's group."""
        while (parent := self._parents.get(name, name)) != name:
            name = parent
        return name

    def sources(self, group: str) -> list[str]:
        """Members that are made and not moved: where the group is rounded."""
        return [name for name in self._members[group] if not self._is_moved(name)]

    def _is_moved(self, name: str) -> bool:
        maker = self._graph.producers.get(name)
        return maker is not None and maker.op_type in _MOVING


@dataclass(frozen=True)
class _Limits:
    """The largest size of the values of tensors, as far as it follows from what the pairs taken out could hold."""

    graph: GraphView
    held: Mapping[str, float]
    ranges: Ranges

    def of(self, name: str) -> float | None:
        """Of a sum no more than of its parts together; None where it does not follow."""
        held = next((self.held[one] for one in self._turned(name) if one in self.held), None)
        if held is not None:
            return held
        node = self.graph.producers.get(name)
        if node is None:
            return None
        if node.op_type == "Relu" and node.input[0] in self.held:
            return self._positive(node.input[0])
        if node.op_type not in ("Add", "Concat", "Relu", "Split", "MaxPool", "Reshape", "Transpose"):
            return None
        parts = [self.of(one) for one in (node.input if node.op_type in ("Add", "Concat") else node.input[:1])]
        sizes = [part for part in parts if part is not None]
        if len(sizes) < len(parts):
            return None
        return sum(sizes) if node.op_type == "Add" else max(sizes)

    def _turned(self, name: str) -> Iterator[str]:
        """The tensor, and those that hold the same values in another shape or order."""
        yield name
        for node in self.graph.nodes:
            if node.op_type in _TURNING and node.input[0] == name:
                yield from self._turned(node.output[0])

    def _positive(self, name: str) -> float:
        """What a ReLU leaves of it: less where its largest values are negative, if it is still what was observed."""
        limit, seen = self.held[name], self.ranges.tensors.get(name)
        if seen is None or not math.isclose(seen.limit, limit, rel_tol=1e-5):
            return limit
        return min(max(seen.high, 0.0), limit)


def _step(graph: GraphView, limits: Mapping[str, float]) -> _Step:
    limit = max(limits.values()) or 1.0  # any step holds what is always 0
    return _Step(limit / INT8_MAX, all(_never_negative(graph, name) for name in limits))


def _never_negative(graph: GraphView, name: str) -> bool:
    node = graph.producers.get(name)
    if node is None:
        value = graph.constant(name)
        return value is not None and bool((value >= 0).all())
    if node.op_type in _NEVER_NEGATIVE:
        return node.op_type != "Clip"
    data = node.input if node.op_type in ("Add", "Mul", "Concat") else node.input[:1]
    return node.op_type in _KEEP_SIGN and all(_never_negative(graph, one) for one in data)


def _insert(model: onnx.ModelProto, name: str, step: _Step) -> None:
    """Round `name` for all that read it."""
    graph = model.graph
    restored, scale, zero = (f"{name}_{part}" for part in ("DequantizeLinear_Output", "scale", "zero_point"))
    readers = [node for node in graph.node if name in node.input]
    _rename(readers, name, restored)
    for index in reversed(range(len(graph.initializer))):  # one by one: a new list would copy all weights, every time
        if graph.initializer[index].name in (scale, zero):
            del graph.initializer[index]
    graph.initializer.append(numpy_helper.from_array(np.array(step.scale, np.float32), scale))
    kind = TensorProto.UINT8 if step.unsigned else TensorProto.INT8
    graph.initializer.append(helper.make_tensor(zero, kind, [], [0]))
    whole = f"{name}_QuantizeLinear_Output"
    pair = [
        helper.make_node("QuantizeLinear", [name, scale, zero], [whole], f"{name}_QuantizeLinear"),
        helper.make_node("DequantizeLinear", [whole, scale, zero], [restored], f"{name}_DequantizeLinear"),
    ]
    made = next((index + 1 for index, node in enumerate(graph.node) if name in node.output), 0)
    for offset, node in enumerate(pair):
        graph.node.insert(made + offset, node)
