"""Random graphs are computed as ONNX Runtime computes them, or a reason names the layer: there is no third outcome."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto

from edgeact.export.cpu.native.compiler import compile_model
from edgeact.export.cpu.native.refusals import NotLoweredError
from tests.export.cpu.native.making import integer
from tests.export.graph.graphs import graph, node
from tests.export.graph.passes.running import run as run_onnx
from tests.runtime.native.making import ISAS, NEEDS_ENGINE, run

SHAPE = (1, 8, 2, 5, 5)
CLIPS = [np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32) for seed in range(3)]
SAME_SIZE = {"kernel_shape": [3, 3, 3], "pads": [1] * 6}
MAX_RELATIVE_ERROR = 0.04
"""The engine does not quantize partial sums, and quantizes tensors at other places."""

LayerChoice = tuple[str, int, int, int]


def _layer(choice: LayerChoice, index: int, tensors: list[str]) -> list[NodeProto]:
    """Return the nodes of one more layer that reads any of `tensors`."""
    kind, first, second, cut = choice
    a, b, out = tensors[-1 - first % len(tensors)], tensors[-1 - second % len(tensors)], f"f{index}"
    match kind:
        case "conv":
            return [node("Conv", [a, f"w{cut}"], [out], f"conv {index}", **SAME_SIZE)]
        case "add":
            return [node("Add", [a, b], [out], f"add {index}")]
        case "relu":
            return [node("Relu", [a], [out], f"relu {index}")]
        case "pool":
            return [node("MaxPool", [a], [out], f"pool {index}", kernel_shape=[1, 3, 3], pads=[0, 1, 1] * 2)]
        case "gate":
            mean = node("ReduceMean", [a], [f"m{index}"], f"mean {index}", axes=[2, 3, 4])
            gate = node("Sigmoid", [f"m{index}"], [f"g{index}"], f"gate {index}")
            return [mean, gate, node("Mul", [b, f"g{index}"], [out], f"mul {index}")]
    halves = [f"l{index}", f"r{index}"]
    split = node("Split", [a, f"cut{cut}"], halves, f"split {index}", axis=1)
    return [split, node("Concat", [halves[1], halves[0]], [out], f"concat {index}", axis=1)]


KINDS = st.sampled_from(["conv", "conv", "add", "add", "relu", "relu", "split", "pool", "gate"])
LAYERS = st.lists(st.tuples(KINDS, *[st.integers(0, 3)] * 2, st.integers(1, 3)), min_size=2, max_size=12)


def _model(layers: list[LayerChoice]) -> ir.Model:
    rng = np.random.default_rng(0)
    constants = {f"w{index}": rng.normal(0, 0.1, (8, 8, 3, 3, 3)).astype(np.float32) for index in range(5)}
    constants |= {f"cut{first}": np.array([first, 8 - first], np.int64) for first in (1, 2, 3)}
    nodes, tensors = [node("Conv", ["x", "w0"], ["f"], "stem", **SAME_SIZE)], ["f"]
    for index, choice in enumerate(layers):
        nodes += _layer(choice, index, tensors)
        tensors.append(f"f{index}")
    nodes.append(node("Conv", [tensors[-1], "w4"], ["last"], "last", **SAME_SIZE))
    nodes.append(node("Relu", ["last"], ["cut"], "last relu"))  # without it, means near zero would compare noise
    nodes.append(node("ReduceMean", ["cut"], ["pooled"], "mean", axes=[2, 3, 4]))
    nodes.append(node("Flatten", ["pooled"], ["y"], "flatten"))
    return integer(graph(_without_dead_nodes(nodes), constants, shape=SHAPE), CLIPS)


def _without_dead_nodes(nodes: list[NodeProto]) -> list[NodeProto]:
    """Return the nodes that the output depends on: an exported network has no others."""
    live, kept = {"y"}, []
    for each in reversed(nodes):
        if live & set(each.output):
            live |= set(each.input)
            kept.append(each)
    return kept[::-1]


@pytest.mark.slow
@NEEDS_ENGINE
@settings(max_examples=60)
@given(LAYERS)
def test_a_random_graph_agrees_or_is_refused(layers: list[LayerChoice]) -> None:
    model = _model(layers)
    try:
        program = compile_model(model)
    except NotLoweredError:
        return
    for clip in CLIPS:
        expected = run_onnx(model, clip).ravel()
        for isa in ISAS:
            actual = run(program, clip, threads=2, isa=isa)
            assert np.linalg.norm(actual - expected) < MAX_RELATIVE_ERROR * np.linalg.norm(expected)
