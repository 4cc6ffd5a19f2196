"""A fake-quant graph whose layers are switched between INT8 and float at run time, without compiling it again.

Trying N sets of layers with the quantizer takes N graphs and N sessions. This graph serves all of them: behind every
activation with a Q/DQ pair stands `Where(switch, fake-quant value, float value)`, and weights are inputs, fed in float
or fake-quantized. An enabled layer enables the pairs of its input, output and weight, as the quantizer does with a
layer that is not excluded: with a set of layers enabled, the graph computes the same as `quantize` with all others
excluded.

The graph is cut into segments at tensors that all later nodes depend on, between the blocks of a network. `resume`
starts at the last cut before a layer, so nothing in front of it is computed again.
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

__all__ = ["Layer", "ToggleGraph", "build_toggle_graph"]

Array = npt.NDArray[np.float32]

_SWITCH, _QUANTIZED, _BIAS, _MEAN = "edgeact_switch/", "edgeact_fake_quant/", "edgeact_bias/", "edgeact_mean/"


@dataclass(frozen=True)
class Layer:
    """A quantized layer and the tensors that it enables."""

    name: str
    """Name of its node."""
    weight: str
    """Name of its weight in the float graph; empty for a product of two activations."""
    macs: int
    tensors: frozenset[str]
    """Its weight, and its input and output activations that have a Q/DQ pair."""
    bias: str | None
    """Graph input of its bias; None if the operator has none."""


@dataclass(frozen=True)
class _Feed:
    """The values fed to a graph input while its tensor is in float and while it is quantized."""

    tensor: str
    as_float: npt.NDArray[Any]
    quantized: npt.NDArray[Any]


@dataclass(frozen=True)
class _Segment:
    """The nodes between two cuts."""

    runner: GraphRunner
    source: str
    results: tuple[str, ...]
    fed: frozenset[str]
    """Switches, weights and biases that it reads."""


@dataclass(frozen=True)
class ToggleGraph:
    """A graph whose layers are switched between INT8 and float at run time.

    Layers are in graph order; `enabled` names the layers in INT8. A state is the input of a segment: the clip, float32
    of the graph's input shape, or the tensor at a cut.
    """

    layers: tuple[Layer, ...]
    biases: Mapping[str, Array]
    """Input name -> default bias of the layer, zeros if it has none."""
    _feeds: Mapping[str, _Feed] = field(repr=False)
    _segments: tuple[_Segment, ...] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all layers."""
        return tuple(layer.name for layer in self.layers)

    def run(self, clip: Array, enabled: Collection[str], biases: Mapping[str, Array] | None = None) -> Array:
        """Return logits `(1, classes)` of a clip; `biases` replace `self.biases`."""
        return self.resume(0, clip, enabled, biases)

    def states(self, clip: Array, enabled: Collection[str]) -> list[Array]:
        """Return the state of every segment, and the logits at the end."""
        states = [clip]
        for index in range(len(self._segments)):
            states.append(self.advance(index, states[-1], enabled)[0])
        return states

    def resume(
        self, first: int, state: Array, enabled: Collection[str], biases: Mapping[str, Array] | None = None
    ) -> Array:
        """Return logits, from the state of segment `first`."""
        for index in range(first, len(self._segments)):
            state = self.advance(index, state, enabled, biases)[0]
        return state

    def fed(self, biases: Mapping[str, Array]) -> dict[str, Array]:
        """Return biases for `run` from biases by layer name; other layers keep their defaults."""
        return dict(self.biases) | {
            layer.bias: biases[layer.name] for layer in self.layers if layer.bias and layer.name in biases
        }

    def advance(
        self, index: int, state: Array, enabled: Collection[str], biases: Mapping[str, Array] | None = None
    ) -> list[Array]:
        """Return the state after segment `index`, then the means of its layers in order (see `build_toggle_graph`)."""
        segment = self._segments[index]
        quantized = {tensor for layer in self.layers if layer.name in enabled for tensor in layer.tensors}
        feeds: dict[str, npt.NDArray[Any]] = {segment.source: state}
        for name in segment.fed:
            if feed := self._feeds.get(name):
                feeds[name] = feed.quantized if feed.tensor in quantized else feed.as_float
            else:
                feeds[name] = (biases or self.biases)[name]
        return segment.runner.run(segment.results, feeds)

    def first_segment(self, layer: Layer) -> int:
        """Return the first segment that `layer` changes."""
        return next(index for index, segment in enumerate(self._segments) if self._tensors(segment) & layer.tensors)

    def layers_by_segment(self) -> list[list[Layer]]:
        """Return the layers whose biases each segment reads, in graph order."""
        return [[layer for layer in self.layers if layer.bias in segment.fed] for segment in self._segments]

    def _tensors(self, segment: _Segment) -> set[str]:
        return {self._feeds[name].tensor for name in segment.fed if name in self._feeds}


def build_toggle_graph(
    model: ir.Model, quantized: ir.Model, excluded: Collection[str], *, with_means: bool = False
) -> ToggleGraph:
    """Return the toggle graph of `quantized`, the quantizer's output for `model` with layers of `excluded` in float.

    With `with_means` every segment also returns the mean output per channel of its layers that have a bias input,
    before quantization. Neither model is changed.
    """
    body = quantized.clone()
    pairs = _pairs(body)
    layers = _layers(body, model, pairs, excluded)
    nodes = {name_of(node): node for node in body.graph}
    biases = {layer.bias: _bias(nodes[layer.name]) for layer in layers if layer.bias}
    feeds_by_input = _feeds(body, pairs)
    clip = body.graph.inputs[0]
    _switch(body.graph, pairs)
    _feed_biases(body.graph, [layer for layer in layers if layer.bias], biases)
    remove_unused(body)
    segments = _segments(body, clip, biases.keys() if with_means else ())
    return ToggleGraph(tuple(layers), biases, feeds_by_input, segments)


Pairs = Mapping[ir.Value, ir.Value]
"""Output of a DequantizeLinear -> the tensor that its QuantizeLinear reads."""


def _pairs(body: ir.Model) -> Pairs:
    pairs = {}
    for node in body.graph:
        quantizer = operand(node, 0).producer() if node.op_type == "DequantizeLinear" else None
        if quantizer is not None and quantizer.op_type == "QuantizeLinear":
            pairs[node.outputs[0]] = operand(quantizer, 0)
    return pairs


def _layers(body: ir.Model, source: ir.Model, pairs: Pairs, excluded: Collection[str]) -> list[Layer]:
    originals = {name_of(node): node for node in source.graph}
    paired = set(pairs.values())
    layers = []
    for node in body.graph:
        name, inputs = name_of(node), list(given_inputs(node))[:2]
        if node.op_type in QUANTIZED_OPS and name not in excluded and all(value in pairs for value in inputs):
            operands = [pairs[value] for value in inputs]
            layers.append(
                Layer(
                    name=name,
                    weight=next((name_of(value) for value in operands if is_constant(value)), ""),
                    macs=_macs(originals[name]),
                    tensors=frozenset(map(name_of, [*operands, *paired.intersection(node.outputs)])),
                    bias=_BIAS + name if _takes_bias(node) else None,
                )
            )
    return layers


def _takes_bias(node: ir.Node) -> bool:
    return node.op_type == "Conv" or (node.op_type == "Gemm" and node.attributes.get_float("beta", 1.0) == 1.0)


def _macs(node: ir.Node) -> int:
    """Return the multiply-accumulates of a node of the lowered graph, which has other layers than PyTorch's modules."""
    values = (node.outputs[0], operand(node, 1), operand(node, 0))
    outputs, weight, inputs = ([side or 0 for side in dims_of(value) or (0,)] for value in values)
    if node.op_type == "Conv":
        return math.prod(outputs) * math.prod(weight[1:])
    if node.op_type == "Gemm":
        return outputs[0] * math.prod(weight)
    return math.prod(outputs) * inputs[-1]


def _bias(node: ir.Node) -> Array:
    """Return the bias `(channels,)` of a layer."""
    bias = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is None:
        channels = (dims_of(node.outputs[0]) or (0, 0))[1] or 0
        return np.zeros(channels, np.float32)
    return bias.astype(np.float32)


def _feeds(body: ir.Model, pairs: Pairs) -> dict[str, _Feed]:
    """Return the feeds by input name: weights under the name that their layer reads, and switches of activations."""
    weights = [back for back, tensor in pairs.items() if is_constant(tensor)]
    feeds_by_input = {}
    for back, quantized in zip(weights, _fake_quantized(body, weights), strict=True):
        feeds_by_input[name_of(back)] = _Feed(name_of(pairs[back]), required_array(pairs[back]), quantized)
    for tensor in pairs.values():
        if not is_constant(tensor):
            name = name_of(tensor)
            feeds_by_input[_SWITCH + name] = _Feed(name, np.array(False), np.array(True))
    return feeds_by_input


def _fake_quantized(body: ir.Model, weights: Sequence[ir.Value]) -> list[Array]:
    """Return the weights behind their Q/DQ pairs, computed by the operators."""
    if not weights:
        return []
    return GraphRunner(_subgraph(body, [], weights)).run([name_of(value) for value in weights], {})


def _switch(graph: ir.Graph, pairs: Pairs) -> None:
    """Turn weights into inputs, and add a switch behind every pair of an activation."""
    for back, tensor in pairs.items():
        name = name_of(back)
        if is_constant(tensor):
            selected = ir.val(name, back.dtype, back.shape)
            graph.inputs.append(selected)
            back.replace_all_uses_with(selected)
            continue
        back.name = _QUANTIZED + name_of(tensor)
        switch = ir.val(_SWITCH + name_of(tensor), ir.DataType.BOOL, ())
        graph.inputs.append(switch)
        selected = ir.val(name, back.dtype, back.shape)
        label = f"{_SWITCH}Where/{name_of(tensor)}"
        where = ir.node("Where", [switch, back, tensor], outputs=[selected], name=label)
        back.replace_all_uses_with(selected, replace_graph_outputs=True)
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
    """Cut the graph into segments; the layers with a bias in `averaged` return means."""
    nodes = list(body.graph)
    fed = {value for value in body.graph.inputs if value is not clip}
    segments, start, source = [], 0, clip
    for end, carried in [*_cuts(nodes, clip, fed), (len(nodes), body.graph.outputs[0])]:
        between = nodes[start:end]
        read = {name_of(value): value for node in between for value in given_inputs(node) if value in fed}
        means = [_mean(body.graph, node) for node in between if len(node.inputs) > 2 and _reads(node, averaged)]
        inputs, results = [source, *(read[name] for name in sorted(read))], [carried, *means]
        runner = GraphRunner(_subgraph(body, inputs, results))
        segments.append(_Segment(runner, name_of(source), tuple(map(name_of, results)), frozenset(read)))
        start, source = end, carried
    return tuple(segments)


def _cuts(nodes: Sequence[ir.Node], clip: ir.Value, fed: Collection[ir.Value]) -> list[tuple[int, ir.Value]]:
    """Return (number of nodes before, tensor at the cut) of every cut, each with a layer on both sides."""
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
    """Add an output to the graph: the layer's output averaged over all axes except its channels."""
    value = node.outputs[0]
    name = _MEAN + name_of(value)
    axes = [axis for axis in range(len(dims_of(value) or ())) if axis != 1]
    mean = ir.val(name, ir.DataType.FLOAT)
    graph.append(ir.node("ReduceMean", [value], {"axes": axes, "keepdims": 0}, outputs=[mean], name=name))
    return mean


def _subgraph(body: ir.Model, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Model:
    """Return a copy of the nodes between `inputs` and `outputs`."""
    return ir.Model(ir.convenience.extract(body.graph, inputs, outputs), ir_version=body.ir_version)
