"""Graphs drawn at random are computed as ONNX Runtime computes them, or refused by layer: never anything else."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto

from edgeact.errors import ConversionError
from edgeact.export.cpu.native.buffers import place
from edgeact.export.cpu.native.lower import scan
from tests.export.cpu.native.making import integer
from tests.export.graph.graphs import graph_proto as graph
from tests.export.graph.graphs import node
from tests.export.graph.passes.running import run as run_onnx
from tests.runtime.native.making import INSTRUCTIONS, NEEDS_ENGINE, run

SHAPE = (1, 8, 2, 5, 5)
CLIPS = [np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32) for seed in range(3)]
CENTRED = {"kernel_shape": [3, 3, 3], "pads": [1] * 6}
ROUNDINGS = 0.04
"""Of the result: sums that the engine does not round between, tensors rounded at other places."""

Drawn = tuple[str, int, int, int]


def _layer(drawn: Drawn, index: int, known: list[str]) -> list[NodeProto]:
    """One more layer behind any of the `known` features."""
    kind, first, second, cut = drawn
    one, two, out = known[-1 - first % len(known)], known[-1 - second % len(known)], f"f{index}"
    match kind:
        case "conv":
            return [node("Conv", [one, f"w{cut}"], [out], f"conv {index}", **CENTRED)]
        case "add":
            return [node("Add", [one, two], [out], f"add {index}")]
        case "relu":
            return [node("Relu", [one], [out], f"relu {index}")]
        case "pool":
            return [node("MaxPool", [one], [out], f"pool {index}", kernel_shape=[1, 3, 3], pads=[0, 1, 1] * 2)]
        case "gate":
            mean = node("ReduceMean", [one], [f"m{index}"], f"mean {index}", axes=[2, 3, 4])
            gate = node("Sigmoid", [f"m{index}"], [f"g{index}"], f"gate {index}")
            return [mean, gate, node("Mul", [two, f"g{index}"], [out], f"mul {index}")]
    halves = [f"l{index}", f"r{index}"]
    split = node("Split", [one, f"cut{cut}"], halves, f"split {index}", axis=1)
    return [split, node("Concat", [halves[1], halves[0]], [out], f"join {index}", axis=1)]


KINDS = st.sampled_from(["conv", "conv", "add", "add", "relu", "relu", "split", "pool", "gate"])
LAYERS = st.lists(st.tuples(KINDS, *[st.integers(0, 3)] * 2, st.integers(1, 3)), min_size=2, max_size=12)


def _model(layers: list[Drawn]) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    constants = {f"w{index}": rng.normal(0, 0.1, (8, 8, 3, 3, 3)).astype(np.float32) for index in range(5)}
    constants |= {f"cut{first}": np.array([first, 8 - first], np.int64) for first in (1, 2, 3)}
    nodes, known = [node("Conv", ["x", "w0"], ["f"], "stem", **CENTRED)], ["f"]
    for index, drawn in enumerate(layers):
        nodes += _layer(drawn, index, known)
        known.append(f"f{index}")
    nodes.append(node("Conv", [known[-1], "w4"], ["last"], "last", **CENTRED))
    nodes.append(node("Relu", ["last"], ["cut"], "cut"))  # without it means of near nothing would tell nothing
    nodes.append(node("ReduceMean", ["cut"], ["pooled"], "mean", axes=[2, 3, 4]))
    nodes.append(node("Flatten", ["pooled"], ["y"], "flatten"))
    return integer(graph(_live(nodes), constants, shape=SHAPE), CLIPS)


def _live(nodes: list[NodeProto]) -> list[NodeProto]:
    """Those of which the last one knows anything: an exported network has no others."""
    wanted, kept = {"y"}, []
    for one in reversed(nodes):
        if wanted & set(one.output):
            wanted |= set(one.input)
            kept.append(one)
    return kept[::-1]


@NEEDS_ENGINE
@settings(max_examples=60, deadline=None)
@given(LAYERS)
def test_a_drawn_graph_agrees_or_is_refused(layers: list[Drawn]) -> None:
    model = _model(layers)
    try:
        made = place(*scan(model))
    except ConversionError:
        return
    for clip in CLIPS:
        wanted = run_onnx(model, clip).ravel()
        for name in INSTRUCTIONS:
            found = run(made, clip, threads=2, name=name)
            assert np.linalg.norm(found - wanted) < ROUNDINGS * np.linalg.norm(wanted)
