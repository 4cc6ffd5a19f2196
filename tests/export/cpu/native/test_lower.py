"""Small INT8 graphs read as operations, run as programs, against ONNX Runtime; and what is refused, by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto

from edgeact.errors import ConversionError
from edgeact.export.cpu.native.buffers import place
from edgeact.export.cpu.native.ir import ArrayOp, ConvOp, InputOp, Op, PoolOp, RestoreOp, RoundOp
from edgeact.export.cpu.native.lower import scan
from tests.export.cpu.native.making import integer
from tests.export.graph.graphs import graph_proto as graph
from tests.export.graph.graphs import node
from tests.export.graph.passes.running import run as run_onnx
from tests.runtime.native.making import INSTRUCTIONS, NEEDS_ENGINE, run

SHAPE = (1, 8, 3, 6, 6)
CLIPS = [np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32) for seed in range(4)]
CENTRED = {"kernel_shape": [3, 3, 3], "pads": [1] * 6}
STEM = [node("Conv", ["x", "w0"], ["a"], "stem", **CENTRED), node("Relu", ["a"], ["u"], "stem's relu")]


def _head(source: str) -> list[NodeProto]:
    pooled = node("ReduceMean", [source], ["pooled"], "mean", axes=[2, 3, 4])
    return [pooled, node("Flatten", ["pooled"], ["y"], "flatten")]


def _int8(nodes: list[NodeProto], **constants: Any) -> onnx.ModelProto:
    rng, names = np.random.default_rng(0), {name for one in nodes for name in one.input if name.startswith("w")}
    weights = {name: rng.normal(0, 0.1, (8, 8, 3, 3, 3)).astype(np.float32) for name in sorted(names)}
    model = graph(nodes, {**weights, **constants}, shape=SHAPE)
    return integer(model, CLIPS)


def _ops(model: onnx.ModelProto, kind: type[Op]) -> list[Any]:
    return [op for op in scan(model)[0] if isinstance(op, kind)]


def _agrees(model: onnx.ModelProto) -> None:
    """By every instruction set, as the graph says; sums that are not rounded between may differ by a little."""
    made = place(*scan(model))
    for clip in CLIPS:
        wanted = run_onnx(model, clip).ravel()
        for name in INSTRUCTIONS:
            found = run(made, clip, threads=2, name=name)
            assert np.linalg.norm(found - wanted) < 0.02 * np.linalg.norm(wanted)


ADDED: dict[str, tuple[list[NodeProto], int]] = {
    "features to a convolution": (
        [
            *STEM,
            node("Conv", ["u", "w1"], ["c"], "second", **CENTRED),
            node("Add", ["u", "c"], ["sum"], "add"),
            node("Relu", ["sum"], ["r"], "relu of the sum"),
            node("Conv", ["r", "w2"], ["last"], "third", **CENTRED),
            *_head("last"),
        ],
        1,
    ),
    "without a ReLU": (
        [
            *STEM,
            node("Conv", ["u", "w1"], ["c"], "second", **CENTRED),
            node("Add", ["u", "c"], ["sum"], "add"),
            node("Conv", ["sum", "w2"], ["last"], "third", **CENTRED),
            *_head("last"),
        ],
        1,
    ),
    "to what a ReLU cut": (
        [
            *STEM,
            node("Conv", ["u", "w1"], ["c"], "second", **CENTRED),
            node("Relu", ["c"], ["v"], "second's relu"),
            node("Add", ["u", "v"], ["sum"], "add"),
            node("Conv", ["sum", "w2"], ["last"], "third", **CENTRED),
            *_head("last"),
        ],
        1,
    ),
    "two in turn": (
        [
            *STEM,
            node("Conv", ["u", "w1"], ["c"], "second", **CENTRED),
            node("Relu", ["c"], ["v"], "second's relu"),
            node("Conv", ["v", "w2"], ["d"], "third", **CENTRED),
            node("Relu", ["d"], ["z"], "third's relu"),
            node("Add", ["u", "v"], ["one"], "add"),
            node("Add", ["one", "z"], ["sum"], "add again"),
            node("Conv", ["sum", "w3"], ["last"], "fourth", **CENTRED),
            *_head("last"),
        ],
        1,
    ),
}


@NEEDS_ENGINE
@pytest.mark.parametrize("case", ADDED)
def test_sums_are_part_of_convolutions(case: str) -> None:
    nodes, least = ADDED[case]
    model = _int8(nodes)
    assert sum(len(op.sums) for op in _ops(model, ConvOp)) >= least
    assert not _ops(model, RoundOp)
    assert all(op.op != "add" for op in _ops(model, ArrayOp))
    _agrees(model)


@NEEDS_ENGINE
def test_splits_joins_and_pools_move_pieces() -> None:
    nodes = [
        *STEM,
        node("Split", ["u", "halves"], ["u1", "u2"], "split", axis=1),
        node("Concat", ["u2", "u1"], ["turned"], "join", axis=1),
        node("MaxPool", ["turned"], ["p"], "pool", kernel_shape=[1, 2, 2], strides=[1, 2, 2]),
        node("Conv", ["p", "w1"], ["last"], "second", strides=[2, 1, 1], **CENTRED),
        *_head("last"),
    ]
    model = _int8(nodes, halves=np.array([3, 5], np.int64))
    assert {type(op) for op in scan(model)[0]} == {InputOp, ConvOp, PoolOp, ArrayOp}
    (pool,) = _ops(model, PoolOp)
    assert [(piece.first, piece.last) for piece in pool.inputs] == [(3, 8), (0, 3)]
    _agrees(model)


@NEEDS_ENGINE
def test_a_gate_in_float_multiplies_what_a_convolution_leaves_in_float() -> None:
    nodes = [
        *STEM,
        node("ReduceMean", ["u"], ["mean"], "gate's mean", axes=[2, 3, 4]),
        node("Sigmoid", ["mean"], ["g"], "gate"),
        node("Mul", ["u", "g"], ["gated"], "times"),
        node("Conv", ["gated", "w1"], ["last"], "second", **CENTRED),
        *_head("last"),
    ]
    model = _int8(nodes)
    assert _ops(model, ConvOp)[0].array is not None
    assert len(_ops(model, RoundOp)) == 1
    assert not _ops(model, RestoreOp)
    assert [op.op for op in _ops(model, ArrayOp)] == ["mean", "sigmoid", "mul", "mean"]
    _agrees(model)


REFUSED: dict[str, tuple[str, list[NodeProto], str]] = {
    "an unknown operator": ("odd", [node("Softplus", ["u"], ["v"], "odd")], "has no Softplus"),
    "dilation": (
        "wide",
        [node("Conv", ["u", "w1"], ["v"], "wide", dilations=[1, 2, 2], kernel_shape=[3, 3, 3], pads=[1, 2, 2] * 2)],
        "grouped or dilated",
    ),
    "a pool with dilation": (
        "wide",
        [node("MaxPool", ["u"], ["v"], "wide", kernel_shape=[1, 2, 2], dilations=[1, 2, 2])],
        "without dilation",
    ),
    "features of another order": ("turn", [node("Transpose", ["u"], ["v"], "turn", perm=[0, 1, 2, 4, 3])], "the clip"),
    "a join along time": ("long", [node("Concat", ["u", "u"], ["v"], "long", axis=2)], "joins channels only"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_engine_lacks_is_refused_by_layer(case: str) -> None:
    name, nodes, why = REFUSED[case]
    model = _int8([*STEM, *nodes, *_head("v")])
    with pytest.raises(ConversionError, match=f"layer '{name}': .*{why}"):
        scan(model)


def test_grouped_convolutions_are_refused() -> None:
    narrow = np.random.default_rng(0).normal(0, 0.1, (8, 4, 3, 3, 3)).astype(np.float32)
    nodes = [*STEM, node("Conv", ["u", "narrow"], ["v"], "apart", group=2, **CENTRED), *_head("v")]
    with pytest.raises(ConversionError, match="layer 'apart': it has no grouped or dilated convolution"):
        scan(_int8(nodes, narrow=narrow))


@NEEDS_ENGINE
def test_a_sum_behind_a_relu_is_made_before_it_is_added() -> None:
    nodes = [
        *STEM,
        node("Conv", ["u", "w1"], ["c"], "second", **CENTRED),
        node("Conv", ["c", "w2"], ["d"], "third", **CENTRED),
        node("Relu", ["d"], ["z"], "third's relu"),
        node("Add", ["c", "u"], ["sum"], "add"),
        node("Relu", ["sum"], ["r"], "relu of the sum"),
        node("Add", ["r", "z"], ["total"], "add again"),
        node("Conv", ["total", "w3"], ["last"], "fourth", **CENTRED),
        *_head("last"),
    ]
    _agrees(_int8(nodes))


@NEEDS_ENGINE
def test_what_a_pool_leaves_can_be_read_in_parts() -> None:
    nodes = [
        *STEM,
        node("MaxPool", ["u"], ["p"], "pool", kernel_shape=[1, 2, 2], strides=[1, 2, 2]),
        node("Split", ["p", "halves"], ["p1", "p2"], "split", axis=1),
        node("Concat", ["p2", "p1"], ["turned"], "join", axis=1),
        node("Conv", ["turned", "w1"], ["last"], "second", **CENTRED),
        *_head("last"),
    ]
    _agrees(_int8(nodes, halves=np.array([3, 5], np.int64)))
