"""Layers of users' networks in the native engine: groups, dilation, averages, gates, sums; equal to ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto

from edgeact.export.cpu.native.compiler import compile_model
from edgeact.export.cpu.native.onnx_nodes import dilated, ungrouped
from edgeact.runtime.native.program import Conv
from tests.export.cpu.native.making import CLIPS, SAME_SIZE, SHAPE, STEM, head, int8_network, integer
from tests.export.graph.graphs import graph, node
from tests.export.graph.passes.running import run as run_onnx
from tests.runtime.native.making import ISAS, NEEDS_ENGINE, run

MAX_RELATIVE_ERROR = 0.02
"""The engine does not quantize partial sums."""


def _weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.2, shape).astype(np.float32)


@dataclass(frozen=True)
class _Network:
    """Nodes from the activation 'u', (1, 8, 3, 6, 6), to 'v'."""

    nodes: list[NodeProto]
    constants: dict[str, Any] = field(default_factory=dict)


def _conv(shape: tuple[int, ...], **attributes: Any) -> _Network:
    """Return a convolution with a ReLU; the weight is (outputs, inputs per group, kT, kH, kW)."""
    conv = node("Conv", ["u", "w1"], ["a1"], "conv", **{**SAME_SIZE, **attributes})
    return _Network([conv, node("Relu", ["a1"], ["v"], "relu")], {"w1": _weight(*shape)})


def _unary(operator: str, inputs: tuple[str, ...] = (), **attributes: Any) -> _Network:
    nodes = [
        node("Conv", ["u", "w1"], ["a1"], "conv", **SAME_SIZE),
        node(operator, ["a1", *inputs], ["s1"], "function", **attributes),
        node("Conv", ["s1", "w2"], ["a2"], "second", **SAME_SIZE),
        node("Relu", ["a2"], ["v"], "relu"),
    ]
    return _Network(nodes, {"zero": np.float32(0), "six": np.float32(6)})


def _average(**attributes: Any) -> _Network:
    """Return an average pool of an activation that a convolution reads as well, so that it is quantized."""
    nodes = [
        node("AveragePool", ["u"], ["p"], "mean pool", **attributes),
        node("Conv", ["u", "w1"], ["a1"], "beside", **{**SAME_SIZE, "strides": attributes.get("strides", [1, 1, 1])}),
        node("Relu", ["a1"], ["r1"], "relu beside"),
        node("Concat", ["p", "r1"], ["c"], "concat", axis=1),
        node("Conv", ["c", "w2"], ["a2"], "behind", **SAME_SIZE),
        node("Relu", ["a2"], ["v"], "relu"),
    ]
    return _Network(nodes, {"w2": _weight(8, 16, 3, 3, 3)})


def _sum(count: int) -> _Network:
    """Return the sum of `count` convolutions."""
    nodes = [
        each
        for index in range(count)
        for each in (
            node("Conv", ["u", f"w{index + 1}"], [f"a{index}"], f"conv {index}", **SAME_SIZE),
            node("Relu", [f"a{index}"], [f"r{index}"], f"relu {index}"),
        )
    ]
    total = "r0"
    for index in range(1, count):
        nodes.append(node("Add", [total, f"r{index}"], [f"t{index}"], f"add {index}"))
        total = f"t{index}"
    return _Network([*nodes, node("Relu", [total], ["v"], "last relu")])


DILATED = {"kernel_shape": [3, 3, 3], "dilations": [1, 2, 2], "pads": [1, 2, 2] * 2}
NETWORKS = {
    "two groups": _conv((8, 4, 3, 3, 3), group=2),
    "groups of one input and two outputs": _conv((16, 1, 3, 3, 3), group=8),
    "depthwise": _conv((8, 1, 3, 3, 3), group=8),
    "depthwise with stride": _conv((8, 1, 3, 3, 3), group=8, strides=[1, 2, 2]),
    "groups wider than a tile": _conv((48, 4, 3, 3, 3), group=2),
    "groups that no tile divides": _conv((12, 4, 1, 1, 1), group=2, kernel_shape=[1, 1, 1], pads=[0] * 6),
    "dilation": _conv((8, 8, 3, 3, 3), **DILATED),
    "dilated groups": _conv((8, 2, 3, 3, 3), group=4, **DILATED),
    "average pool": _average(kernel_shape=[1, 2, 2], strides=[1, 2, 2]),
    "average pool with padding": _average(**SAME_SIZE, count_include_pad=1),
    "average pool of the values beside padding": _average(**SAME_SIZE),
    "average pool of the values beside padding, with stride": _average(**SAME_SIZE, strides=[2, 2, 2]),
    "average pool of everything": _Network(
        [node("AveragePool", ["u"], ["p"], "mean pool", kernel_shape=[3, 6, 6]), node("Mul", ["u", "p"], ["v"], "gate")]
    ),
    "average pool in float": _Network(
        [
            node("Sigmoid", ["u"], ["s"], "sigmoid"),
            node("AveragePool", ["s"], ["v"], "mean pool", kernel_shape=[1, 2, 2], strides=[1, 2, 2]),
        ]
    ),
    "hard swish": _unary("HardSwish"),
    "hard sigmoid": _unary("HardSigmoid", alpha=1 / 6, beta=0.5),
    "ReLU6": _unary("Clip", ("zero", "six")),
    "clip from below": _unary("Clip", ("zero",)),
    "channel convolution": _Network(
        [
            node("ReduceMean", ["u"], ["m"], "squeeze", axes=[2, 3, 4]),
            node("Reshape", ["m", "row"], ["r"], "row"),
            node("Conv", ["r", "w1"], ["c"], "channels", kernel_shape=[3], pads=[1, 1]),
            node("Sigmoid", ["c"], ["s"], "sigmoid"),
            node("Reshape", ["s", "volume"], ["g"], "volume"),
            node("Mul", ["u", "g"], ["v"], "gate"),
        ],
        {
            "w1": _weight(1, 1, 3),
            "row": np.array([1, 1, 8], np.int64),
            "volume": np.array([1, 8, 1, 1, 1], np.int64),
        },
    ),
    "X3D's bottleneck": _Network(
        [
            node("Conv", ["u", "w1"], ["a1"], "depthwise", group=8, **SAME_SIZE),
            node("ReduceMean", ["a1"], ["m"], "squeeze", axes=[2, 3, 4]),
            node("Conv", ["m", "w2"], ["r1"], "reduce"),
            node("Relu", ["r1"], ["r2"], "reduce relu"),
            node("Conv", ["r2", "w3"], ["e"], "expand"),
            node("Sigmoid", ["e"], ["g"], "gate"),
            node("Mul", ["a1", "g"], ["x1"], "excite"),
            node("Sigmoid", ["x1"], ["s1"], "sigmoid"),
            node("Mul", ["x1", "s1"], ["s2"], "swish"),
            node("Conv", ["s2", "w4"], ["p"], "project"),
            node("Add", ["p", "u"], ["t"], "add"),
            node("Relu", ["t"], ["v"], "relu"),
        ],
        {
            "w1": _weight(8, 1, 3, 3, 3),
            "w2": _weight(4, 8, 1, 1, 1),
            "w3": _weight(8, 4, 1, 1, 1),
            "w4": _weight(8, 8, 1, 1, 1),
        },
    ),
    "R(2+1)D's pair": _Network(
        [
            node("Conv", ["u", "w1"], ["a1"], "space", kernel_shape=[1, 3, 3], pads=[0, 1, 1] * 2),
            node("Relu", ["a1"], ["r1"], "space relu"),
            node("Conv", ["r1", "w2"], ["a2"], "time", kernel_shape=[3, 1, 1], pads=[1, 0, 0] * 2),
            node("Add", ["a2", "u"], ["t"], "add"),
            node("Relu", ["t"], ["v"], "relu"),
        ],
        {"w1": _weight(12, 8, 1, 3, 3), "w2": _weight(8, 12, 3, 1, 1)},
    ),
    "S3D's branches": _Network(
        [
            node("Conv", ["u", "w1"], ["a1"], "point"),
            node("Relu", ["a1"], ["r1"], "point relu"),
            node("MaxPool", ["u"], ["p"], "pool", **SAME_SIZE),
            node("Conv", ["p", "w2"], ["a2"], "behind pool"),
            node("Relu", ["a2"], ["r2"], "pool relu"),
            node("Concat", ["r1", "r2"], ["c"], "concat", axis=1),
            node("Conv", ["c", "w3"], ["a3"], "next"),
            node("Relu", ["a3"], ["v"], "next relu"),
        ],
        {"w1": _weight(8, 8, 1, 1, 1), "w2": _weight(4, 8, 1, 1, 1), "w3": _weight(8, 12, 1, 1, 1)},
    ),
    "sum of four": _sum(4),
    "sum of six": _sum(6),
}


def _run_both(network: _Network) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the logits of ONNX Runtime, and those of the engine by every instruction set, for all clips."""
    model = int8_network([*STEM, *network.nodes, *head("v")], **network.constants)
    program = compile_model(model)
    expected = np.concatenate([run_onnx(model, clip).ravel() for clip in CLIPS])
    return expected, [np.concatenate([run(program, clip, threads=2, isa=isa) for clip in CLIPS]) for isa in ISAS]


@NEEDS_ENGINE
@pytest.mark.parametrize("name", NETWORKS)
def test_layer_computes_what_onnx_runtime_does(name: str) -> None:
    expected, (first, *others) = _run_both(NETWORKS[name])
    assert np.linalg.norm(first - expected) < MAX_RELATIVE_ERROR * np.linalg.norm(expected)
    for other in others:
        np.testing.assert_array_equal(other, first)


@NEEDS_ENGINE
def test_a_classifier_reads_a_flattened_activation() -> None:
    nodes = [*STEM, node("Flatten", ["u"], ["f"], "flatten"), node("Gemm", ["f", "m"], ["y"], "classifier", transB=1)]
    model = int8_network(nodes, m=np.random.default_rng(2).normal(0, 0.1, (5, 8 * 3 * 6 * 6)).astype(np.float32))
    program = compile_model(model)
    for clip in CLIPS:
        expected = run_onnx(model, clip).ravel()
        assert np.linalg.norm(run(program, clip, threads=2) - expected) < MAX_RELATIVE_ERROR * np.linalg.norm(expected)


@NEEDS_ENGINE
def test_residual_around_a_depthwise_convolution_is_fused() -> None:
    nodes = [
        node("Conv", ["u", "w1"], ["a1"], "depthwise", group=8, **SAME_SIZE),
        node("Add", ["a1", "u"], ["t"], "add"),
        node("Relu", ["t"], ["v"], "relu"),
    ]
    network = _Network(nodes, {"w1": _weight(8, 1, 3, 3, 3)})
    expected, actual = _run_both(network)
    for each in actual:
        assert np.linalg.norm(each - expected) < MAX_RELATIVE_ERROR * np.linalg.norm(expected)
    program, _ = compile_model(int8_network([*STEM, *nodes, *head("v")], **network.constants))
    last = [each for each in program.instructions if isinstance(each, Conv)][-1]
    assert last.epilogues[0].summands


@pytest.mark.parametrize(("channels", "group", "count"), [(40, 40, 3), (64, 16, 4), (64, 2, 2), (12, 4, 1)])
def test_groups_are_divided_into_convolutions_of_a_tile(channels: int, group: int, count: int) -> None:
    """Each reads the channels of its groups only."""
    rng = np.random.default_rng(0)
    weights = {
        "w0": rng.normal(0, 0.1, (channels, 8, 3, 3, 3)).astype(np.float32),
        "w1": rng.normal(0, 0.1, (channels, channels // group, 3, 3, 3)).astype(np.float32),
    }
    nodes = [*STEM, node("Conv", ["u", "w1"], ["v"], "grouped", group=group, **SAME_SIZE), *head("v")]
    program, _ = compile_model(integer(graph(nodes, weights, shape=SHAPE), CLIPS))
    _stem, *convs = [each for each in program.instructions if isinstance(each, Conv)]
    assert len(convs) == count
    reads = [(conv.channel, program.tensors[conv.weights].shape) for conv in convs]
    assert sum(shape[0] for _, shape in reads) == channels
    assert [channel for channel, _ in reads] == list(np.cumsum([0, *(shape[4] for _, shape in reads[:-1])]))


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.data())
def test_ungrouped_weights_are_block_diagonal(groups: int, outputs: int, inputs: int, data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 9))
    values = np.random.default_rng(seed).integers(1, 9, (groups * outputs, 1, 1, 1, inputs)).astype(np.int8)
    whole = ungrouped(values, groups)
    assert whole.shape == (groups * outputs, 1, 1, 1, groups * inputs)
    for output, row in enumerate(whole):
        first = output // outputs * inputs
        np.testing.assert_array_equal(row[..., first : first + inputs], values[output])
        assert np.count_nonzero(row) == inputs


@settings(max_examples=20)
@given(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)))
def test_dilated_weights_have_zero_taps_between(dilations: tuple[int, int, int]) -> None:
    values = _weight(2, 2, 3, 3, 3)
    spread = dilated(values, graph_node(dilations))
    assert spread.shape[2:] == tuple(2 * step + 1 for step in dilations)
    time, height, width = dilations
    np.testing.assert_array_equal(spread[:, :, ::time, ::height, ::width], values)
    assert np.count_nonzero(spread) == values.size


def graph_node(dilations: tuple[int, int, int]) -> Any:
    """Return an `onnx_ir` convolution with these dilations."""
    nodes = [node("Conv", ["x", "w"], ["y"], "conv", dilations=list(dilations), pads=[6] * 6)]
    (conv,) = graph(nodes, {"w": _weight(8, 8, 3, 3, 3)}, shape=SHAPE).graph
    return conv
