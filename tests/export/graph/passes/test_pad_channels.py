"""Padding keeps the function, and widens only activations that convolutions alone produce and read."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.export.graph.passes.apply import apply_rewrites
from edgeact.export.graph.passes.base import Refusal
from edgeact.export.graph.passes.pad_channels import PadChannels
from edgeact.export.graph.proto import from_proto, to_bytes
from edgeact.export.graph.values import weight_dims
from tests.export.graph.graphs import graph_proto as graph
from tests.export.graph.graphs import node
from tests.export.graph.passes.running import run

RULE = (PadChannels(),)
REFUSED = Refusal("activations between convolutions with slightly fewer channels than a multiple of 16", "none")
CENTERED: dict[str, Any] = {"kernel_shape": [3] * 3, "pads": [1] * 6}
POOLS: dict[str, dict[str, Any]] = {
    "MaxPool": {"kernel_shape": [1, 2, 2], "strides": [1, 2, 2], "pads": [0, 1, 1, 0, 0, 0]},
    "AveragePool": {"kernel_shape": [1, 2, 2], "count_include_pad": 1, "pads": [0, 1, 1, 0, 0, 0]},
    "Relu": {},
}


def _block(channels: int, inner: int, pool: str = "MaxPool", stride: int = 1) -> onnx.ModelProto:
    """A residual block of `channels`, `inner` within, behind a pooled stem; read by one more convolution."""
    rng = np.random.default_rng(channels * 100 + inner)
    sizes = {"w0": (channels, 3), "w1": (inner, channels), "w2": (channels, inner), "w3": (5, channels)}
    constants = {name: rng.normal(size=(*size, 3, 3, 3)).astype(np.float32) for name, size in sizes.items()}
    constants |= {"b1": rng.normal(size=inner).astype(np.float32), "b3": rng.normal(size=5).astype(np.float32)}
    nodes = [
        node("Conv", ["x", "w0"], ["a"], "stem", **CENTERED),
        node(pool, ["a"], ["p"], "pool", **POOLS[pool]),
        node("Conv", ["p", "w1", "b1"], ["c"], "first", **CENTERED),
        node("Relu", ["c"], ["d"], "relu"),
        node("Conv", ["d", "w2"], ["e"], "second", **CENTERED),
        node("Add", ["p", "e"], ["sum"], "add"),
        node("Relu", ["sum"], ["s"], "relu of the sum"),
        node("Conv", ["s", "w3", "b3"], ["y"], "last", **{**CENTERED, "strides": [stride] * 3}),
    ]
    return graph(nodes, constants, shape=(1, 3, 3, 6, 5))


def _channels(model: ir.Model) -> dict[str | None, tuple[int, ...]]:
    return {entry.name: (weight_dims(entry) or ())[:2] for entry in model.graph if entry.op_type == "Conv"}


@settings(max_examples=40)
@given(
    channels=st.integers(1, 66),
    inner=st.integers(1, 66),
    pool=st.sampled_from(list(POOLS)),
    stride=st.integers(1, 2),
)
def test_the_block_remains_the_same(channels: int, inner: int, pool: str, stride: int) -> None:
    model = from_proto(_block(channels, inner, pool, stride))
    before = _channels(model)
    rewritten, (outcome,) = apply_rewrites(model, RULE)
    after = _channels(rewritten)
    grown = {count: -(-count // 16) * 16 for count in (channels, inner)}
    grown = {count: new if new - count <= count / 4 else count for count, new in grown.items()}
    assert outcome.is_applied == any(count != new for count, new in grown.items())
    assert after["first"] == (grown[inner], grown[channels])
    assert after["second"] == (grown[channels], grown[inner])
    assert (after["stem"][1], after["last"][0]) == (before["stem"][1], before["last"][0])
    x = np.random.default_rng(1).normal(size=(1, 3, 3, 6, 5)).astype(np.float32)
    wanted = run(model, x)
    np.testing.assert_allclose(run(rewritten, x), wanted, rtol=1e-3, atol=1e-4 * float(np.abs(wanted).max()))
    again, (second,) = apply_rewrites(rewritten, RULE)
    assert not second.is_applied
    assert to_bytes(again) == to_bytes(rewritten)


def test_weights_may_come_from_a_node() -> None:
    proto = _block(60, 60)
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "w1")
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w1"], value=weight))
    proto.graph.initializer.remove(weight)
    model = from_proto(proto)
    rewritten, (outcome,) = apply_rewrites(model, RULE)
    assert outcome.is_applied
    x = np.random.default_rng(1).normal(size=(1, 3, 3, 6, 5)).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, x), run(model, x), rtol=1e-3, atol=1e-2)


def _changed(change: str) -> onnx.ModelProto:
    model = _block(60, 60)
    by_name = {entry.name: entry for entry in model.graph.node}
    if change == "sigmoid":  # of 0 it is a half
        by_name["relu"].op_type = by_name["relu of the sum"].op_type = "Sigmoid"
    elif change == "read by another":
        for name in ("d", "s"):
            model.graph.node.append(node("Exp", [name], [f"exp of {name}"], f"reader of {name}"))
    else:
        model.graph.output.extend([onnx.helper.make_tensor_value_info(name, 1, None) for name in ("d", "p")])
    return model


@pytest.mark.parametrize("change", ["sigmoid", "read by another", "an output"])
def test_activations_that_other_nodes_read_are_left_alone(change: str) -> None:
    assert PadChannels().check(from_proto(_changed(change))) == REFUSED


def test_a_grouped_convolution_reads_no_more_channels() -> None:
    weight = np.ones((60, 30, 1, 1, 1), np.float32)
    nodes = [
        node("Conv", ["x", "w0"], ["a"], "first", kernel_shape=[1] * 3),
        node("Conv", ["a", "w1"], ["y"], "grouped", kernel_shape=[1] * 3, group=2),
    ]
    model = graph(nodes, {"w0": np.ones((60, 4, 1, 1, 1), np.float32), "w1": weight}, shape=(1, 4, 2, 3, 3))
    assert PadChannels().check(from_proto(model)) == REFUSED
