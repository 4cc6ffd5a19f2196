"""An INT8 graph whose layers are switched between INT8 and float while it runs, so that trying them compiles nothing.

Trying N layers one by one with the quantizer takes N graphs and N sessions. Here there is one graph: every activation
that has a Q/DQ pair goes on as `Where(switch, rounded, as computed)`, and the weights are inputs, fed in float or
rounded, which costs nothing. A layer that is on turns on every pair it touches, its inputs', its output's and its
weight's, as the quantizer does with a layer that is not excluded: with a set of layers on, the graph computes what
`quantize` makes with all others in its skip list.

The graph is cut where one tensor carries everything, between the blocks of a network. What a layer does not change need
not be computed again: `resume` goes on from the last cut before it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeact.export.graph.edit import remove_unused, set_inputs
from edgeact.export.graph.run import GraphRunner
from edgeact.export.graph.values import (
    constant_array,
    dims_of,
    given_inputs,
    is_constant,
    name_of,
    operand,
    required_array,
)
from edgeact.export.quantize.activation_ranges import QUANTIZED_OPS

__all__ = ["Layer", "SwitchedGraph", "switchable"]

Array = npt.NDArray[np.float32]

_SWITCH, _ROUNDED, _BIAS, _MEAN = "edgeact_switch/", "edgeact_rounded/", "edgeact_bias/", "edgeact_mean/"


@dataclass(frozen=True)
class Layer:
    """One quantized layer, by its node's name, and what it switches."""

    name: str
    weight: str
    """Name of its weight in the float graph; empty where it has none."""
    macs: int
    tensors: frozenset[str]
    """What it rounds: its weight, and the activations it reads and makes that have a Q/DQ pair."""
    bias: str | None
    """The input its bias is fed to; None where it has no place for one."""


@dataclass(frozen=True)
class _Choice:
    """What an input of the graph is fed while a tensor is in float, and while it is rounded."""

    tensor: str
    as_float: npt.NDArray[Any]
    rounded: npt.NDArray[Any]


@dataclass(frozen=True)
class _Segment:
    """What is computed between two cuts."""

    runner: GraphRunner
    source: str
    results: tuple[str, ...]
    fed: frozenset[str]
    """Switches, weights and biases it reads."""


@dataclass(frozen=True)
class SwitchedGraph:
    """See the module. Layers stand in the graph's order; `on` are the names of those in INT8.

    A state is what a segment starts from: the clip, float32 of the graph's input shape, then what the cuts carry.
    """

    layers: tuple[Layer, ...]
    biases: Mapping[str, Array]
    """By the input's name: what every layer has for a bias where nothing else is said, zeros where it has none."""
    _choices: Mapping[str, _Choice] = field(repr=False)
    _segments: tuple[_Segment, ...] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all layers."""
        return tuple(layer.name for layer in self.layers)

    def run(self, clip: Array, on: Collection[str], biases: Mapping[str, Array] | None = None) -> Array:
        """Logits `(1, classes)` of a clip; `biases` take the place of `self.biases`."""
        return self.resume(0, clip, on, biases)

    def states(self, clip: Array, on: Collection[str]) -> list[Array]:
        """What every segment starts from, and the logits at the end."""
        found = [clip]
        for index in range(len(self._segments)):
            found.append(self.advance(index, found[-1], on)[0])
        return found

    def resume(self, first: int, state: Array, on: Collection[str], biases: Mapping[str, Array] | None = None) -> Array:
        """Logits, from the state that segment `first` starts from."""
        for index in range(first, len(self._segments)):
            state = self.advance(index, state, on, biases)[0]
        return state

    def fed(self, biases: Mapping[str, Array]) -> dict[str, Array]:
        """What to give `run` for biases by the layers' names; the other layers keep their own."""
        return dict(self.biases) | {
            layer.bias: biases[layer.name] for layer in self.layers if layer.bias and layer.name in biases
        }

    def advance(
        self, index: int, state: Array, on: Collection[str], biases: Mapping[str, Array] | None = None
    ) -> list[Array]:
        """The state after segment `index`, then the means of its layers, see `switchable`, in their order."""
        segment = self._segments[index]
        touched = {tensor for layer in self.layers if layer.name in on for tensor in layer.tensors}
        feeds: dict[str, npt.NDArray[Any]] = {segment.source: state}
        for name in segment.fed:
            if choice := self._choices.get(name):
                feeds[name] = choice.rounded if choice.tensor in touched else choice.as_float
            else:
                feeds[name] = (biases or self.biases)[name]
        return segment.runner.run(segment.results, feeds)

    def first_segment(self, layer: Layer) -> int:
        """The first segment that `layer` changes."""
        return next(index for index, segment in enumerate(self._segments) if self._tensors(segment) & layer.tensors)

    def in_segments(self) -> list[list[Layer]]:
        """The layers whose biases each segment reads, in the graph's order."""
        return [[layer for layer in self.layers if layer.bias in segment.fed] for segment in self._segments]

    def _tensors(self, segment: _Segment) -> set[str]:
        return {self._choices[name].tensor for name in segment.fed if name in self._choices}


def switchable(
    model: ir.Model, quantized: ir.Model, skip: Collection[str], *, with_means: bool = False
) -> SwitchedGraph:
    """The switched form of `quantized`, which the quantizer made of `model` with the layers of `skip` left in float.

    `with_means` has every segment give its layers' outputs too, before they are rounded, each averaged over all but
    its channels, for the layers that have a place for a bias. Neither model is changed.
    """
    body = quantized.clone()
    pairs = _pairs(body)
    layers = _layers(body, model, pairs, skip)
    nodes = {name_of(node): node for node in body.graph}
    biases = {layer.bias: _bias(nodes[layer.name]) for layer in layers if layer.bias}
    choices = _choices(body, pairs)
    clip = body.graph.inputs[0]
    _switch(body.graph, pairs)
    _feed_biases(body.graph, [layer for layer in layers if layer.bias], biases)
    remove_unused(body)
    segments = _segments(body, clip, biases.keys() if with_means else ())
    return SwitchedGraph(tuple(layers), biases, choices, segments)


Pairs = Mapping[ir.Value, ir.Value]
"""Output of a DequantizeLinear -> what its QuantizeLinear rounds."""


def _pairs(body: ir.Model) -> Pairs:
    pairs = {}
    for node in body.graph:
        quantizer = operand(node, 0).producer() if node.op_type == "DequantizeLinear" else None
        if quantizer is not None and quantizer.op_type == "QuantizeLinear":
            pairs[node.outputs[0]] = operand(quantizer, 0)
    return pairs


def _layers(body: ir.Model, source: ir.Model, pairs: Pairs, skip: Collection[str]) -> list[Layer]:
    originals = {name_of(node): node for node in source.graph}
    rounded = set(pairs.values())
    layers = []
    for node in body.graph:
        name, inputs = name_of(node), list(given_inputs(node))[:2]
        if node.op_type in QUANTIZED_OPS and name not in skip and all(value in pairs for value in inputs):
            operands = [pairs[value] for value in inputs]
            layers.append(
                Layer(
                    name=name,
                    weight=next((name_of(value) for value in operands if is_constant(value)), ""),
                    macs=_macs(originals[name]),
                    tensors=frozenset(map(name_of, [*operands, *rounded.intersection(node.outputs)])),
                    bias=_BIAS + name if _takes_bias(node) else None,
                )
            )
    return layers


def _takes_bias(node: ir.Node) -> bool:
    return node.op_type == "Conv" or (node.op_type == "Gemm" and node.attributes.get_float("beta", 1.0) == 1.0)


def _macs(node: ir.Node) -> int:
    """Multiply-accumulates: of every output, as many as its channel's weights."""
    values = (node.outputs[0], operand(node, 1), operand(node, 0))
    outputs, weight, inputs = ([side or 0 for side in dims_of(value) or (0,)] for value in values)
    if node.op_type == "Conv":
        return math.prod(outputs) * math.prod(weight[1:])
    if node.op_type == "Gemm":
        return outputs[0] * math.prod(weight)
    return math.prod(outputs) * inputs[-1]


def _bias(node: ir.Node) -> Array:
    """The layer's bias, a vector of its channels."""
    there = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    if there is None:
        channels = (dims_of(node.outputs[0]) or (0, 0))[1] or 0
        return np.zeros(channels, np.float32)
    return there.astype(np.float32)


def _choices(body: ir.Model, pairs: Pairs) -> dict[str, _Choice]:
    """A weight is fed under the name it is read by, an activation has a switch."""
    weights = [back for back, tensor in pairs.items() if is_constant(tensor)]
    choices = {}
    for back, rounded in zip(weights, _rounded(body, weights), strict=True):
        choices[name_of(back)] = _Choice(name_of(pairs[back]), required_array(pairs[back]), rounded)
    for tensor in pairs.values():
        if not is_constant(tensor):
            name = name_of(tensor)
            choices[_SWITCH + name] = _Choice(name, np.array(False), np.array(True))
    return choices


def _rounded(body: ir.Model, weights: Sequence[ir.Value]) -> list[Array]:
    """What the weights' pairs make of them, by the operators themselves."""
    if not weights:
        return []
    return GraphRunner(_part(body, [], weights)).run([name_of(value) for value in weights], {})


def _switch(graph: ir.Graph, pairs: Pairs) -> None:
    """Make inputs of the weights, and go on with every other pair as its switch, a further input, says."""
    for back, tensor in pairs.items():
        name = name_of(back)
        if is_constant(tensor):
            going_on = ir.val(name, back.dtype, back.shape)
            graph.inputs.append(going_on)
            back.replace_all_uses_with(going_on)
            continue
        back.name = _ROUNDED + name_of(tensor)
        switch = ir.val(_SWITCH + name_of(tensor), ir.DataType.BOOL, ())
        graph.inputs.append(switch)
        going_on = ir.val(name, back.dtype, back.shape)
        label = f"{_SWITCH}Where/{name_of(tensor)}"
        where = ir.node("Where", [switch, back, tensor], outputs=[going_on], name=label)
        back.replace_all_uses_with(going_on, replace_graph_outputs=True)
        where.replace_input_with(1, back)
        producer = back.producer()
        assert producer is not None
        graph.insert_after(producer, where)


def _feed_biases(graph: ir.Graph, layers: Sequence[Layer], biases: Mapping[str, Array]) -> None:
    names = {layer.name: layer.bias for layer in layers if layer.bias}
    for node in graph:
        if name := names.get(name_of(node)):
            bias = ir.val(name, ir.DataType.FLOAT, biases[name].shape)
            graph.inputs.append(bias)
            set_inputs(node, [*node.inputs[:2], bias])


def _segments(body: ir.Model, clip: ir.Value, averaged: Collection[str]) -> tuple[_Segment, ...]:
    """The graph in pieces; the layers with a bias of `averaged` give means."""
    nodes = list(body.graph)
    fed = {value for value in body.graph.inputs if value is not clip}
    segments, start, source = [], 0, clip
    for end, carried in [*_cuts(nodes, clip, fed), (len(nodes), body.graph.outputs[0])]:
        own = nodes[start:end]
        read = {name_of(value): value for node in own for value in given_inputs(node) if value in fed}
        means = [_mean(body.graph, node) for node in own if len(node.inputs) > 2 and _reads(node, averaged)]
        inputs, results = [source, *(read[name] for name in sorted(read))], [carried, *means]
        runner = GraphRunner(_part(body, inputs, results))
        segments.append(_Segment(runner, name_of(source), tuple(map(name_of, results)), frozenset(read)))
        start, source = end, carried
    return tuple(segments)


def _cuts(nodes: Sequence[ir.Node], clip: ir.Value, fed: Collection[ir.Value]) -> list[tuple[int, ir.Value]]:
    """(number of nodes before it, the one tensor it carries) of every place to cut, each with a layer on both sides."""
    last = {
        value: index
        for index, node in enumerate(nodes)
        for value in given_inputs(node)
        if value not in fed and not is_constant(value)
    }
    layers = [index for index, node in enumerate(nodes) if node.op_type in QUANTIZED_OPS]
    live, cuts, start = {clip}, [], 0
    for index, node in enumerate(nodes[:-1]):
        live |= {value for value in node.outputs if value in last}
        live -= {value for value in given_inputs(node) if last.get(value) == index}
        if len(live) == 1 and any(start <= layer <= index for layer in layers) and layers[-1] > index:
            start = index + 1
            cuts.append((start, next(iter(live))))
    return cuts


def _reads(node: ir.Node, biases: Collection[str]) -> bool:
    return name_of(operand(node, 2)) in biases


def _mean(graph: ir.Graph, node: ir.Node) -> ir.Value:
    """A new result of the graph: the layer's output averaged over all but its channels."""
    value = node.outputs[0]
    name = _MEAN + name_of(value)
    axes = [axis for axis in range(len(dims_of(value) or ())) if axis != 1]
    mean = ir.val(name, ir.DataType.FLOAT)
    graph.append(ir.node("ReduceMean", [value], {"axes": axes, "keepdims": 0}, outputs=[mean], name=name))
    return mean


def _part(body: ir.Model, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Model:
    """A copy of what leads from `inputs` to `outputs`."""
    return ir.Model(ir.convenience.extract(body.graph, inputs, outputs), ir_version=body.ir_version)
