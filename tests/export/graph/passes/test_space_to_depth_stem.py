"""The stem on blocks of pixels: equal to the original for every kernel and padding, or refused with the reason."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgeact.export.graph.passes.apply import apply_rewrites
from edgeact.export.graph.passes.base import Refusal
from edgeact.export.graph.passes.space_to_depth_stem import SpaceToDepthStem
from tests.export.graph.graphs import graph, node
from tests.export.graph.passes.running import run

STEM = {"kernel_shape": [3, 7, 7], "strides": [1, 2, 2], "pads": [1, 3, 3, 1, 3, 3]}
SHAPE = (1, 3, 4, 16, 16)
STEM_ONLY = (SpaceToDepthStem(),)


def _stem(shape: tuple[Any, ...] = SHAPE, *, outputs: int = 5, bias: bool = True, **changes: Any) -> onnx.ModelProto:
    attributes: dict[str, Any] = {name: value for name, value in {**STEM, **changes}.items() if value is not None}
    rng = np.random.default_rng(0)
    inputs = shape[1] // attributes.get("group", 1)
    constants = {"w": rng.normal(0, 0.1, (outputs, inputs, *attributes["kernel_shape"])).astype(np.float32)}
    names = ["x", "w"]
    if bias:
        constants["b"] = rng.normal(size=outputs).astype(np.float32)
        names.append("b")
    nodes = [node("Conv", names, ["c"], **attributes), node("Relu", ["c"], ["y"])]
    return graph(nodes, constants, shape=shape)


SIDE = st.tuples(st.integers(1, 7), st.integers(0, 4), st.integers(0, 4))


@settings(max_examples=120, deadline=None)
@given(
    extent=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(2, 6), st.integers(2, 6)),
    time=st.sampled_from([(1, 0, 0), (3, 1, 1), (2, 1, 0)]),
    rows=SIDE,
    columns=SIDE,
    bias=st.booleans(),
)
def test_rewritten_stem_computes_the_same(
    extent: tuple[int, int, int, int],
    time: tuple[int, int, int],
    rows: tuple[int, int, int],
    columns: tuple[int, int, int],
    bias: bool,
) -> None:
    """Any kernel, even or odd, with any padding, the same on both sides or not, that halves the size."""
    assume(all(before + after - kernel in (-2, -1) for kernel, before, after in (rows, columns)))
    channels, frames, height, width = extent
    shape = (1, channels, frames, 2 * height, 2 * width)
    sides = list(zip(time, rows, columns, strict=True))
    model = _stem(
        shape,
        bias=bias,
        kernel_shape=list(sides[0]),
        pads=[*sides[1], *sides[2]],
    )
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    rewritten, (applied,) = apply_rewrites(model, STEM_ONLY)
    assert applied.done, applied.detail
    np.testing.assert_allclose(run(rewritten, x), run(model, x), atol=1e-5)
    conv = next(entry for entry in rewritten.graph.node if entry.op_type == "Conv")
    attributes = {item.name: list(item.ints) for item in conv.attribute}
    for axis, (kernel, before, _) in ((1, rows), (2, columns)):  # the docstring's formula
        first, last = -before // 2, (kernel - 1 - before) // 2
        assert attributes["kernel_shape"][axis] == last - first + 1
        assert (attributes["pads"][axis], attributes["pads"][axis + 3]) == (-first, last)
    assert attributes["strides"] == [1, 1, 1]


def _two_users() -> onnx.ModelProto:
    model = _stem()
    model.graph.node.append(node("Relu", ["x"], ["z"]))
    return model


def _computed_weight() -> onnx.ModelProto:
    model = _stem()
    model.graph.node.insert(0, node("Relu", ["w"], ["v"], "weight_relu"))
    model.graph.node[1].input[1] = "v"
    return model


REFUSED = {
    "two users": (_two_users(), "does not go into exactly one convolution"),
    "no convolution": (graph([node("Relu", ["x"], ["y"])]), "does not go into exactly one convolution"),
    "computed weight": (_computed_weight(), "the weight of 'the_Conv' is not a constant"),
    "dynamic": (_stem(("n", 3, 4, 16, 16)), r"static input \(N, C, T, H, W\), got \(0, 3, 4, 16, 16\)"),
    "five channels": (_stem((1, 5, 4, 16, 16)), "5 input channels fill the tiles already"),
    "stride 1": (_stem(strides=[1, 1, 1]), r"expected stride \[1, 2, 2\], got \[1, 1, 1\]"),
    "no stride": (_stem(strides=None), r"got \[1, 1, 1\]"),
    "stride in time": (_stem(strides=[2, 2, 2]), r"got \[2, 2, 2\]"),
    "odd size": (_stem((1, 3, 4, 16, 15)), "H and W must be even, got 16x15"),
    "dilated": (_stem(dilations=[1, 2, 2], pads=[1, 6, 6, 1, 6, 6]), "grouped or dilated"),
    "grouped": (_stem(outputs=6, group=3), "grouped or dilated"),
    "automatic padding": (_stem(pads=None, auto_pad="SAME_UPPER"), "padding is not explicit"),
    "no padding": (_stem(pads=[0] * 6), "it gives 5 outputs for 16 inputs, expected half"),
    "too much padding": (_stem(pads=[1, 5, 3, 1, 5, 3]), "it gives 10 outputs for 16 inputs, expected half"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_why_and_change_nothing(name: str) -> None:
    model, says = REFUSED[name]
    before = model.SerializeToString()
    plan = SpaceToDepthStem().check(model)
    assert isinstance(plan, Refusal)
    assert re.search(says, plan.reason)
    assert model.SerializeToString() == before


def test_a_rewritten_graph_is_left_alone_and_the_original_untouched() -> None:
    model = _stem()
    before = model.SerializeToString()
    once, (first,) = apply_rewrites(model, STEM_ONLY)
    twice, (second,) = apply_rewrites(once, STEM_ONLY)
    assert (first.done, second.done) == (True, False)
    assert "exactly one convolution" in second.detail
    assert twice.SerializeToString() == once.SerializeToString()
    assert model.SerializeToString() == before


def test_the_old_weight_goes_unless_somebody_else_reads_it() -> None:
    model = _stem()
    once, _ = apply_rewrites(model, STEM_ONLY)
    assert "w" not in {tensor.name for tensor in once.graph.initializer}
    model.graph.node.append(node("Relu", ["w"], ["unrelated"], "reader"))
    shared, _ = apply_rewrites(model, STEM_ONLY)
    assert "w" in {tensor.name for tensor in shared.graph.initializer}
