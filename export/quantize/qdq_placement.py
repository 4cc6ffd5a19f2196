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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeact.calibration.ranges import INT8_MAX, Ranges
from edgeact.export.graph.edit import add_constant, remove_unused
from edgeact.export.graph.values import constant_array, given_inputs, is_constant, name_of, operand, quantized_source
from edgeact.export.quantize.activation_ranges import QUANTIZED_OPS

__all__ = ["MOVING_OPS", "integer_flow"]

MOVING_OPS = (
    *("Split", "Concat", "MaxPool", "ReduceMax", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice"),
    "Identity",
)
"""Operators that move values without computing new ones, from their first input (Concat: from all)."""
_TURNING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity")
_NEVER_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Clip")
_KEEP_SIGN = (*MOVING_OPS, "Add", "Mul", "ReduceMean", "ReduceSum", "AveragePool", "GlobalAveragePool")

Observe = Callable[[Mapping[str, str]], Ranges]


@dataclass(frozen=True)
class _Step:
    """How one group of tensors is rounded."""

    scale: float
    unsigned: bool


def integer_flow(quantized: ir.Model, ranges: Ranges, observe: Observe) -> ir.Model:
    """A copy of what `static.quantize` made, with the same layers in INT8 and Q/DQ as said above.

    Steps follow from those in `quantized` and, where a ReLU cuts them, from `ranges`; `observe` gives the ranges of the
    tensors (tensor -> what it is) that do not.
    """
    model = quantized.clone()
    layers, limits = _take_out(model)
    groups = _Groups(model)
    wanted = dict.fromkeys(groups.of(value) for value in _to_round(model, layers))
    sources = {value: group for group in wanted for value in groups.sources(group)}
    known = _Limits(limits, ranges)
    found = {value: known.of(value) for value in sources}
    unknown = [value for value, limit in found.items() if limit is None]
    if unknown:
        seen = observe(dict.fromkeys(map(name_of, unknown), "features between layers"))
        found |= {value: seen.tensors[name_of(value)].limit for value in unknown}
    steps = {group: _step({value: found[value] or 0 for value in groups.sources(group)}) for group in wanted}
    for value, group in sources.items():
        _insert(model.graph, value, steps[group])
    remove_unused(model)
    return model


def _take_out(model: ir.Model) -> tuple[set[ir.Node], dict[ir.Value, float]]:
    """Remove the Q/DQ pairs of activations; the layers that read one, and what each pair could hold."""
    layers: set[ir.Node] = set()
    limits: dict[ir.Value, float] = {}
    for node in list(model.graph):
        quantizer = operand(node, 0).producer() if node.op_type == "DequantizeLinear" else None
        if quantizer is None or quantizer.op_type != "QuantizeLinear" or is_constant(quantizer.inputs[0]):
            continue
        value, output, name = operand(quantizer, 0), node.outputs[0], name_of(node.outputs[0])
        layers |= {use.node for use in output.uses() if use.node.op_type in QUANTIZED_OPS and use.idx == 0}
        limits[value] = _held(quantizer)
        is_result = output.is_graph_output()
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        if is_result:  # a result of the graph keeps its name
            value.name = name
    remove_unused(model)
    return layers, limits


def _held(quantizer: ir.Node) -> float:
    scale = constant_array(quantizer.inputs[1])
    return 0.0 if scale is None else float(scale) * INT8_MAX


def _to_round(model: ir.Model, layers: set[ir.Node]) -> list[ir.Value]:
    """Return what the layers read, and what is added to an output of one of them, in the graph's order.

    The order decides that of the constants in the file: equal graphs give equal bytes in every process.
    """
    values = [value for node in model.graph if node in layers for value in given_inputs(node)]
    for node in model.graph:
        if node.op_type == "Add":
            made = [value for value in given_inputs(node) if value.producer() in layers]
            values += [value for value in given_inputs(node) if made and value is not made[0]]
    return [value for value in dict.fromkeys(values) if _is_feature(value)]


def _is_feature(value: ir.Value) -> bool:
    return not is_constant(value) and not is_constant(quantized_source(value))


class _Groups:
    """Tensors that only moving operators stand between: they share one step."""

    def __init__(self, model: ir.Model) -> None:
        self._parents: dict[ir.Value, ir.Value] = {}
        self._members: dict[ir.Value, dict[ir.Value, None]] = defaultdict(dict)
        for node in model.graph:
            if node.op_type in MOVING_OPS:
                joined = given_inputs(node) if node.op_type == "Concat" else [operand(node, 0)]
                values = [value for value in (*joined, *node.outputs) if _is_feature(value)]
                for value in values[1:]:
                    self._parents[self.of(value)] = self.of(values[0])
        for node in model.graph:
            for value in (*given_inputs(node), *node.outputs):
                self._members[self.of(value)][value] = None

    def of(self, value: ir.Value) -> ir.Value:
        """The tensor that stands for the tensor's group."""
        while (parent := self._parents.get(value, value)) is not value:
            value = parent
        return value

    def sources(self, group: ir.Value) -> list[ir.Value]:
        """Members that are made and not moved: where the group is rounded."""
        return [value for value in self._members[group] if not _is_moved(value)]


def _is_moved(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type in MOVING_OPS


@dataclass(frozen=True)
class _Limits:
    """The largest size of the values of tensors, as far as it follows from what the pairs taken out could hold."""

    held: Mapping[ir.Value, float]
    ranges: Ranges

    def of(self, value: ir.Value) -> float | None:
        """Of a sum no more than of its parts together; None where it does not follow."""
        held = next((self.held[twin] for twin in _turned(value) if twin in self.held), None)
        if held is not None:
            return held
        node = value.producer()
        if node is None:
            return None
        if node.op_type == "Relu" and operand(node, 0) in self.held:
            return self._positive(operand(node, 0))
        if node.op_type not in ("Add", "Concat", "Relu", "Split", "MaxPool", "Reshape", "Transpose"):
            return None
        joined = given_inputs(node) if node.op_type in ("Add", "Concat") else [operand(node, 0)]
        parts = [self.of(part) for part in joined]
        sizes = [part for part in parts if part is not None]
        if len(sizes) < len(parts):
            return None
        return sum(sizes) if node.op_type == "Add" else max(sizes)

    def _positive(self, value: ir.Value) -> float:
        """What a ReLU leaves of it: less where its largest values are negative, if it is still what was observed."""
        limit, seen = self.held[value], self.ranges.tensors.get(name_of(value))
        if seen is None or not math.isclose(seen.limit, limit, rel_tol=1e-5):
            return limit
        return min(max(seen.high, 0.0), limit)


def _turned(value: ir.Value) -> Iterator[ir.Value]:
    """The tensor, and those that hold the same values in another shape or order."""
    yield value
    for node, index in value.uses():
        if node.op_type in _TURNING and index == 0:
            yield from _turned(node.outputs[0])


def _step(limits: Mapping[ir.Value, float]) -> _Step:
    limit = max(limits.values()) or 1.0  # any step holds what is always 0
    return _Step(limit / INT8_MAX, all(_never_negative(value) for value in limits))


def _never_negative(value: ir.Value) -> bool:
    node = value.producer()
    if node is None or is_constant(value):
        array = constant_array(value)
        return array is not None and bool((array >= 0).all())
    if node.op_type in _NEVER_NEGATIVE:
        return node.op_type != "Clip"
    data = given_inputs(node) if node.op_type in ("Add", "Mul", "Concat") else [operand(node, 0)]
    return node.op_type in _KEEP_SIGN and all(_never_negative(part) for part in data)


def _insert(graph: ir.Graph, value: ir.Value, step: _Step) -> None:
    """Round `value` for all that read it."""
    name = name_of(value)
    scale = add_constant(graph, f"{name}_scale", np.array(step.scale, np.float32))
    zero = add_constant(graph, f"{name}_zero_point", np.array(0, np.uint8 if step.unsigned else np.int8))
    tape = ir.tape.Tape()
    integers = tape.op(
        "QuantizeLinear",
        [value, scale, zero],
        name=f"{name}_QuantizeLinear",
        output=ir.val(f"{name}_QuantizeLinear_Output", zero.dtype, value.shape),
    )
    restored = tape.op(
        "DequantizeLinear",
        [integers, scale, zero],
        name=f"{name}_DequantizeLinear",
        output=ir.val(f"{name}_DequantizeLinear_Output", value.dtype, value.shape),
    )
    for node, index in value.uses():
        if node is not tape.nodes[0]:
            node.replace_input_with(index, restored)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], tape.nodes)
    else:
        graph.insert_after(producer, tape.nodes)
