"""The stem on blocks of pixels equals the original for every kernel and padding, or is refused with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.export.graph.passes.apply import apply_rewrites
from edgeact.export.graph.passes.base import Refusal, RewriteOutcome
from edgeact.export.graph.passes.convert_stem_to_space_to_depth import ConvertStemToSpaceToDepth
from edgeact.export.graph.proto import from_proto, to_bytes
from tests.export.graph.graphs import graph_proto as graph
from tests.export.graph.graphs import node
from tests.export.graph.passes.running import run

STEM = {"kernel_shape": [3, 7, 7], "strides": [1, 2, 2], "pads": [1, 3, 3, 1, 3, 3]}
SHAPE = (1, 3, 4, 16, 16)
STEM_ONLY = (ConvertStemToSpaceToDepth(),)


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


@st.composite
def _halving_sides(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw kernel, padding before and padding after with which stride 2 halves an even size."""
    kernel = draw(st.integers(1, 7), label="kernel")
    padding = draw(st.integers(max(0, kernel - 2), kernel - 1), label="padding")
    before = draw(st.integers(max(0, padding - 4), min(4, padding)), label="before")
    return kernel, before, padding - before


@pytest.mark.slow
@settings(max_examples=120)
@given(
    extent=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(2, 6), st.integers(2, 6)),
    time=st.sampled_from([(1, 0, 0), (3, 1, 1), (2, 1, 0)]),
    rows=_halving_sides(),
    columns=_halving_sides(),
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
    channels, frames, height, width = extent
    shape = (1, channels, frames, 2 * height, 2 * width)
    sides = list(zip(time, rows, columns, strict=True))
    model = from_proto(_stem(shape, bias=bias, kernel_shape=list(sides[0]), pads=[*sides[1], *sides[2]]))
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    rewritten, outcomes = apply_rewrites(model, STEM_ONLY)
    assert outcomes == [RewriteOutcome("convert_stem_to_space_to_depth")]
    np.testing.assert_allclose(run(rewritten, x), run(model, x), atol=1e-5)
    conv = next(entry for entry in rewritten.graph if entry.op_type == "Conv")
    attributes = {name: list(attribute.as_ints()) for name, attribute in conv.attributes.items()}
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
    "two users": (_two_users(), Refusal("an input that a single Conv reads", "Conv, Relu")),
    "no convolution": (graph([node("Relu", ["x"], ["y"])]), Refusal("an input that a single Conv reads", "Relu")),
    "computed weight": (_computed_weight(), Refusal("a constant weight", "a computed weight", "the_Conv")),
    "dynamic": (
        _stem(("n", 3, 4, 16, 16)),
        Refusal("a static input (N, C, T, H, W)", "(?, 3, 4, 16, 16)", "the_Conv"),
    ),
    "five channels": (_stem((1, 5, 4, 16, 16)), Refusal("at most 4 input channels", "5", "the_Conv")),
    "stride 1": (_stem(strides=[1, 1, 1]), Refusal("stride [1, 2, 2]", "[1, 1, 1]", "the_Conv")),
    "no stride": (_stem(strides=None), Refusal("stride [1, 2, 2]", "[1, 1, 1]", "the_Conv")),
    "stride in time": (_stem(strides=[2, 2, 2]), Refusal("stride [1, 2, 2]", "[2, 2, 2]", "the_Conv")),
    "odd size": (_stem((1, 3, 4, 16, 15)), Refusal("even H and W", "16x15", "the_Conv")),
    "dilated": (
        _stem(dilations=[1, 2, 2], pads=[1, 6, 6, 1, 6, 6]),
        Refusal("1 group and no dilation", "1 groups and dilation [1, 2, 2]", "the_Conv"),
    ),
    "grouped": (
        _stem(outputs=6, group=3),
        Refusal("1 group and no dilation", "3 groups and dilation [1, 1, 1]", "the_Conv"),
    ),
    "automatic padding": (
        _stem(pads=None, auto_pad="SAME_UPPER"),
        Refusal("explicit padding", "SAME_UPPER", "the_Conv"),
    ),
    "no padding": (_stem(pads=[0] * 6), Refusal("8 outputs for 16 inputs", "5", "the_Conv")),
    "too much padding": (_stem(pads=[1, 5, 3, 1, 5, 3]), Refusal("8 outputs for 16 inputs", "10", "the_Conv")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_why_and_change_nothing(name: str) -> None:
    proto, refusal = REFUSED[name]
    model = from_proto(proto)
    before = to_bytes(model)
    assert ConvertStemToSpaceToDepth().check(model) == refusal
    assert to_bytes(model) == before


def test_a_refusal_reads_as_a_sentence() -> None:
    refusal = Refusal("stride [1, 2, 2]", "[1, 1, 1]", "stem")
    assert refusal.describe() == "layer 'stem': expected stride [1, 2, 2], got [1, 1, 1]"
    assert Refusal("a mean", "none").describe() == "expected a mean, got none"


def test_a_rewritten_graph_is_left_alone_and_the_original_untouched() -> None:
    model = from_proto(_stem())
    before = to_bytes(model)
    once, (first,) = apply_rewrites(model, STEM_ONLY)
    twice, (second,) = apply_rewrites(once, STEM_ONLY)
    assert first.is_applied
    assert second.refusal == Refusal("an input that a single Conv reads", "Reshape")
    assert to_bytes(twice) == to_bytes(once)
    assert to_bytes(model) == before


def test_the_old_weight_is_removed_unless_another_node_reads_it() -> None:
    proto = _stem()
    once, _ = apply_rewrites(from_proto(proto), STEM_ONLY)
    assert "w" not in once.graph.initializers
    proto.graph.node.append(node("Relu", ["w"], ["other"], "reader"))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, None))
    shared, _ = apply_rewrites(from_proto(proto), STEM_ONLY)
    assert "w" in shared.graph.initializers
