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
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgeact.export.graph.view import GraphView, attribute, view
from edgeact.export.quantize.activation_ranges import QUANTIZED_OPS
from edgeact.extras import require

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

    session: Any
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
        found: list[Array] = segment.session.run(list(segment.results), feeds)
        return found

    def first_segment(self, layer: Layer) -> int:
        """The first segment that `layer` changes."""
        return next(index for index, segment in enumerate(self._segments) if self._tensors(segment) & layer.tensors)

    def in_segments(self) -> list[list[Layer]]:
        """The layers whose biases each segment reads, in the graph's order."""
        return [[layer for layer in self.layers if layer.bias in segment.fed] for segment in self._segments]

    def _tensors(self, segment: _Segment) -> set[str]:
        return {self._choices[name].tensor for name in segment.fed if name in self._choices}


def switchable(
    model: onnx.ModelProto, quantized: onnx.ModelProto, skip: Collection[str], *, with_means: bool = False
) -> SwitchedGraph:
    """The switched form of `quantized`, which the quantizer made of `model` with the layers of `skip` left in float.

    `with_means` has every segment give its layers' outputs too, before they are rounded, each averaged over all but
    its channels, for the layers that have a place for a bias. Neither model is changed.
    """
    graph = view(quantized)
    pairs = _pairs(graph)
    layers = _layers(graph, view(model), pairs, skip)
    biases = {layer.bias: _bias(graph, layer) for layer in layers if layer.bias}
    choices = _choices(graph, pairs)
    nodes = [made for node in graph.nodes for made in _switched(graph, node, pairs)]
    _read_biases(nodes, layers)
    body = _body(quantized, nodes, {name: choice.as_float for name, choice in choices.items()} | biases)
    segments = _segments(body, nodes, layers if with_means else [])
    return SwitchedGraph(tuple(layers), biases, choices, segments)


def _pairs(graph: GraphView) -> dict[str, str]:
    """Output of the DequantizeLinear -> what its QuantizeLinear rounds, for every pair."""
    found = {}
    for node in graph.nodes:
        quantizer = graph.producers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if quantizer is not None and quantizer.op_type == "QuantizeLinear":
            found[node.output[0]] = quantizer.input[0]
    return found


def _layers(graph: GraphView, source: GraphView, pairs: Mapping[str, str], skip: Collection[str]) -> list[Layer]:
    originals = {node.name: node for node in source.nodes}
    rounded = set(pairs.values())
    found = []
    for node in graph.nodes:
        if node.op_type in QUANTIZED_OPS and node.name not in skip and pairs.keys() >= set(node.input[:2]):
            operands = [pairs[name] for name in node.input[:2]]
            found.append(
                Layer(
                    name=node.name,
                    weight=next((name for name in operands if name in graph.constants), ""),
                    macs=_macs(source, originals[node.name]),
                    tensors=frozenset([*operands, *(rounded & set(node.output))]),
                    bias=_BIAS + node.name if _takes_bias(node) else None,
                )
            )
    return found


def _takes_bias(node: NodeProto) -> bool:
    return node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "beta", 1.0) == 1.0)


def _macs(graph: GraphView, node: NodeProto) -> int:
    """Multiply-accumulates: of every output, as many as its channel's weights."""
    outputs = [side or 0 for side in graph.shapes.get(node.output[0], (0,))]
    weight = [side or 0 for side in graph.shapes.get(node.input[1], (0,))]
    if node.op_type == "Conv":
        return math.prod(outputs) * math.prod(weight[1:])
    if node.op_type == "Gemm":
        return outputs[0] * math.prod(weight)
    return math.prod(outputs) * (graph.shapes.get(node.input[0], (0,))[-1] or 0)


def _bias(graph: GraphView, layer: Layer) -> Array:
    """The layer's bias, a vector of its channels."""
    node = next(node for node in graph.nodes if node.name == layer.name)
    there = graph.constant(node.input[2]) if len(node.input) > 2 else None
    if there is None:
        channels = graph.shapes[node.output[0]][1] or 0
        return np.zeros(channels, np.float32)
    return there.astype(np.float32)


def _choices(graph: GraphView, pairs: Mapping[str, str]) -> dict[str, _Choice]:
    """A weight is fed under the name it is read by, an activation has a switch."""
    weights = {back: tensor for back, tensor in pairs.items() if tensor in graph.constants}
    choices = {}
    for (back, tensor), value in zip(weights.items(), _rounded(graph, weights), strict=True):
        choices[back] = _Choice(tensor, numpy_helper.to_array(graph.constants[tensor]), value)
    for back, tensor in pairs.items():
        if back not in weights:
            choices[_SWITCH + tensor] = _Choice(tensor, np.array(False), np.array(True))
    return choices


def _rounded(graph: GraphView, weights: Mapping[str, str]) -> list[Array]:
    """What the weights' pairs make of them, by the operators themselves."""
    if not weights:
        return []
    backs = [graph.producers[back] for back in weights]
    nodes = [node for back in backs for node in (graph.producers[back.input[0]], back)]
    outputs = [helper.make_tensor_value_info(back, TensorProto.FLOAT, None) for back in weights]
    used = {name for node in nodes for name in node.input}
    constants = [tensor for name, tensor in graph.constants.items() if name in used]
    body = helper.make_graph(nodes, "weights", [], outputs, constants)
    found: list[Array] = _session(_model(graph.model, body)).run(list(weights), {})
    return found


def _switched(graph: GraphView, node: NodeProto, pairs: Mapping[str, str]) -> list[NodeProto]:
    """What takes the place of a node of the quantized graph."""
    if node.op_type == "QuantizeLinear" and node.input[0] in graph.constants:
        return []
    tensor = pairs.get(node.output[0])
    if tensor is None:
        copied = NodeProto()
        copied.CopyFrom(node)
        return [copied]
    if tensor in graph.constants:
        return []
    back, rounded = node.output[0], _ROUNDED + tensor
    dequantizer = NodeProto()
    dequantizer.CopyFrom(node)
    dequantizer.output[0] = rounded
    where = helper.make_node("Where", [_SWITCH + tensor, rounded, tensor], [back], f"{_SWITCH}Where/{tensor}")
    return [dequantizer, where]


def _read_biases(nodes: Sequence[NodeProto], layers: Sequence[Layer]) -> None:
    names = {layer.name: layer.bias for layer in layers if layer.bias}
    for node in nodes:
        if bias := names.get(node.name):
            operands = [*node.input[:2], bias]
            del node.input[:]
            node.input.extend(operands)


def _body(quantized: onnx.ModelProto, nodes: Sequence[NodeProto], fed: Mapping[str, npt.NDArray[Any]]) -> GraphView:
    """The whole switched graph, with types and shapes."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in fed.items()
    ]
    graph = quantized.graph
    used = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    body = helper.make_graph(nodes, "switched", [*graph.input, *inputs], list(graph.output), constants)
    return view(_model(quantized, body))


def _segments(body: GraphView, nodes: Sequence[NodeProto], averaged: Sequence[Layer]) -> tuple[_Segment, ...]:
    """The graph in pieces; those of `averaged` give means."""
    clip, *rest = (value.name for value in body.model.graph.input)
    fed, biases = set(rest), {layer.bias for layer in averaged if layer.bias}
    segments, start, source = [], 0, clip
    for end, carried in [*_cuts(body, nodes, fed), (len(nodes), body.model.graph.output[0].name)]:
        own = list(nodes[start:end])
        read = {name for node in own for name in node.input}
        means = [node.output[0] for node in own if len(node.input) > 2 and node.input[2] in biases]
        segments.append(_segment(body, own, source, carried, read & fed, means))
        start, source = end, carried
    return tuple(segments)


def _cuts(body: GraphView, nodes: Sequence[NodeProto], fed: Collection[str]) -> list[tuple[int, str]]:
    """(number of nodes before it, the one tensor it carries) of every place to cut, each with a layer on both sides."""
    constants = {*body.constants, *fed}
    last = {name: index for index, node in enumerate(nodes) for name in node.input if name not in constants}
    layers = [index for index, node in enumerate(nodes) if node.op_type in QUANTIZED_OPS]
    live: set[str] = {body.model.graph.input[0].name}
    cuts, start = [], 0
    for index, node in enumerate(nodes[:-1]):
        live |= {name for name in node.output if name in last}
        live -= {name for name in node.input if last.get(name) == index}
        if len(live) == 1 and any(start <= layer <= index for layer in layers) and layers[-1] > index:
            start = index + 1
            cuts.append((start, next(iter(live))))
    return cuts


def _segment(
    body: GraphView, nodes: list[NodeProto], source: str, carried: str, fed: set[str], means: Sequence[str]
) -> _Segment:
    names = [_MEAN + name for name in means]
    for name, mean in zip(means, names, strict=True):
        axes = [axis for axis in range(len(body.shapes[name])) if axis != 1]
        nodes.append(helper.make_node("ReduceMean", [name], [mean], mean, axes=axes, keepdims=0))
    inputs = [_value(body, name) for name in (source, *sorted(fed))]
    outputs = [_value(body, carried), *(helper.make_tensor_value_info(mean, TensorProto.FLOAT, None) for mean in names)]
    used = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in body.model.graph.initializer if tensor.name in used]
    model = _model(body.model, helper.make_graph(nodes, "segment", inputs, outputs, constants))
    return _Segment(_session(model), source, (carried, *names), frozenset(fed))


def _value(body: GraphView, name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, body.types[name], body.shapes[name])


def _model(like: onnx.ModelProto, graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=like.opset_import, ir_version=like.ir_version)


def _session(model: onnx.ModelProto) -> Any:
    ort = require("onnxruntime", "export")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # no rounding is fused away
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # many short runs beside other work
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
