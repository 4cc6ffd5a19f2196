"""Q/DQ placement for INT8 kernels of CPUs: activations remain integers between layers.

`qdq.quantize` places Q/DQ around every layer, the form that all TensorRT releases fuse. A CPU executes it literally:
two quantizations per layer, another scale for every part of a Split, sums in float between integers. Here

* a tensor that operators only move (Split, Concat, MaxPool, Reshape) is quantized once, after its producer, with one
  scale for all tensors that a Concat joins, so parts are copied and never requantized;
* a tensor without negative values is quantized to uint8, and the ReLU in front is part of the quantization. The scale
  remains that of int8: processors without VNNI add two products in 16 bits, which 2 * 255 * 127 exceeds;
* quantized activations are added as integers; only the output of the layer itself is added unquantized, by its kernel.
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

__all__ = ["MOVING_OPS", "place_qdq"]

MOVING_OPS = (
    *("Split", "Concat", "MaxPool", "ReduceMax", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice"),
    "Identity",
)
"""Operators that move values of their first input (Concat: of all inputs) without computing new ones."""
_RESHAPING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity")
_NEVER_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Clip")
_KEEP_SIGN = (*MOVING_OPS, "Add", "Mul", "ReduceMean", "ReduceSum", "AveragePool", "GlobalAveragePool")

Observe = Callable[[Mapping[str, str]], Ranges]


@dataclass(frozen=True)
class _Quantization:
    """Scale and type of a group of tensors."""

    scale: float
    unsigned: bool


def place_qdq(quantized: ir.Model, ranges: Ranges, observe: Observe) -> ir.Model:
    """Return a copy of a graph from `qdq.quantize` with the same layers in INT8 and the Q/DQ placement for CPUs.

    Scales follow from the scales in `quantized` and, behind a ReLU, from `ranges`; `observe` returns ranges of the
    other tensors (tensor -> description).
    """
    model = quantized.clone()
    layers, limits = _remove_activation_pairs(model)
    groups = _Groups(model)
    quantized_groups = dict.fromkeys(groups.of(value) for value in _tensors_to_quantize(model, layers))
    sources = {value: group for group in quantized_groups for value in groups.sources(group)}
    known = _Limits(limits, ranges)
    source_limits = {value: known.of(value) for value in sources}
    unknown = [value for value, limit in source_limits.items() if limit is None]
    if unknown:
        observed = observe(dict.fromkeys(map(name_of, unknown), "activation between layers"))
        source_limits |= {value: observed.tensors[name_of(value)].limit for value in unknown}
    quantizations = {
        group: _quantization({value: source_limits[value] or 0 for value in groups.sources(group)})
        for group in quantized_groups
    }
    for value, group in sources.items():
        _insert(model.graph, value, quantizations[group])
    remove_unused(model)
    return model


def _remove_activation_pairs(model: ir.Model) -> tuple[set[ir.Node], dict[ir.Value, float]]:
    """Remove the Q/DQ pairs of activations; return the layers that read a pair, and the limit of each pair."""
    layers: set[ir.Node] = set()
    limits: dict[ir.Value, float] = {}
    for node in list(model.graph):
        quantizer = operand(node, 0).producer() if node.op_type == "DequantizeLinear" else None
        if quantizer is None or quantizer.op_type != "QuantizeLinear" or is_constant(quantizer.inputs[0]):
            continue
        value, output, name = operand(quantizer, 0), node.outputs[0], name_of(node.outputs[0])
        layers |= {use.node for use in output.uses() if use.node.op_type in QUANTIZED_OPS and use.idx == 0}
        limits[value] = _limit(quantizer)
        is_result = output.is_graph_output()
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        if is_result:  # a result of the graph keeps its name
            value.name = name
    remove_unused(model)
    return layers, limits


def _limit(quantizer: ir.Node) -> float:
    """Return the largest value that the pair represents."""
    scale = constant_array(quantizer.inputs[1])
    return 0.0 if scale is None else float(scale) * INT8_MAX


def _tensors_to_quantize(model: ir.Model, layers: set[ir.Node]) -> list[ir.Value]:
    """Return the inputs of the layers, and the tensors added to their outputs, in graph order.

    The order decides the order of constants in the file: equal graphs give equal bytes in every process.
    """
    values = [value for node in model.graph if node in layers for value in given_inputs(node)]
    for node in model.graph:
        if node.op_type == "Add":
            outputs = [value for value in given_inputs(node) if value.producer() in layers]
            values += [value for value in given_inputs(node) if outputs and value is not outputs[0]]
    return [value for value in dict.fromkeys(values) if _is_activation(value)]


def _is_activation(value: ir.Value) -> bool:
    return not is_constant(value) and not is_constant(quantized_source(value))


class _Groups:
    """Groups of tensors with only moving operators between them, which share a scale."""

    def __init__(self, model: ir.Model) -> None:
        self._parents: dict[ir.Value, ir.Value] = {}
        self._members: dict[ir.Value, dict[ir.Value, None]] = defaultdict(dict)
        for node in model.graph:
            if node.op_type in MOVING_OPS:
                joined = given_inputs(node) if node.op_type == "Concat" else [operand(node, 0)]
                values = [value for value in (*joined, *node.outputs) if _is_activation(value)]
                for value in values[1:]:
                    self._parents[self.of(value)] = self.of(values[0])
        for node in model.graph:
            for value in (*given_inputs(node), *node.outputs):
                self._members[self.of(value)][value] = None

    def of(self, value: ir.Value) -> ir.Value:
        """Return the representative of the group of `value`."""
        while (parent := self._parents.get(value, value)) is not value:
            value = parent
        return value

    def sources(self, group: ir.Value) -> list[ir.Value]:
        """Return the members that a computing operator produces: the group is quantized there."""
        return [value for value in self._members[group] if not _is_moved(value)]


def _is_moved(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type in MOVING_OPS


@dataclass(frozen=True)
class _Limits:
    """Largest magnitudes of tensors, as far as they follow from the limits of the removed pairs."""

    pairs: Mapping[ir.Value, float]
    ranges: Ranges

    def of(self, value: ir.Value) -> float | None:
        """Return the limit of `value`, of a sum at most the sum of limits; None if it does not follow."""
        limit = next((self.pairs[same] for same in _reshaped(value) if same in self.pairs), None)
        if limit is not None:
            return limit
        node = value.producer()
        if node is None:
            return None
        if node.op_type == "Relu" and operand(node, 0) in self.pairs:
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
        """Return the limit behind a ReLU: less if the largest magnitudes are negative and the range is as observed."""
        limit, observed = self.pairs[value], self.ranges.tensors.get(name_of(value))
        if observed is None or not math.isclose(observed.limit, limit, rel_tol=1e-5):
            return limit
        return min(max(observed.high, 0.0), limit)


def _reshaped(value: ir.Value) -> Iterator[ir.Value]:
    """Yield the tensor, and tensors with the same values in another shape or order."""
    yield value
    for node, index in value.uses():
        if node.op_type in _RESHAPING and index == 0:
            yield from _reshaped(node.outputs[0])


def _quantization(limits: Mapping[ir.Value, float]) -> _Quantization:
    limit = max(limits.values()) or 1.0  # every scale represents 0
    return _Quantization(limit / INT8_MAX, all(_never_negative(value) for value in limits))


def _never_negative(value: ir.Value) -> bool:
    node = value.producer()
    if node is None or is_constant(value):
        array = constant_array(value)
        return array is not None and bool((array >= 0).all())
    if node.op_type in _NEVER_NEGATIVE:
        return node.op_type != "Clip"
    data = given_inputs(node) if node.op_type in ("Add", "Mul", "Concat") else [operand(node, 0)]
    return node.op_type in _KEEP_SIGN and all(_never_negative(part) for part in data)


def _insert(graph: ir.Graph, value: ir.Value, quantization: _Quantization) -> None:
    """Quantize and dequantize `value` for all its readers."""
    name = name_of(value)
    scale = add_constant(graph, f"{name}_scale", np.array(quantization.scale, np.float32))
    zero = add_constant(graph, f"{name}_zero_point", np.array(0, np.uint8 if quantization.unsigned else np.int8))
    tape = ir.tape.Tape()
    integers = tape.op(
        "QuantizeLinear",
        [value, scale, zero],
        name=f"{name}_QuantizeLinear",
        output=ir.val(f"{name}_QuantizeLinear_Output", zero.dtype, value.shape),
    )
    dequantized = tape.op(
        "DequantizeLinear",
        [integers, scale, zero],
        name=f"{name}_DequantizeLinear",
        output=ir.val(f"{name}_DequantizeLinear_Output", value.dtype, value.shape),
    )
    for node, index in value.uses():
        if node is not tape.nodes[0]:
            node.replace_input_with(index, dequantized)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], tape.nodes)
    else:
        graph.insert_after(producer, tape.nodes)
