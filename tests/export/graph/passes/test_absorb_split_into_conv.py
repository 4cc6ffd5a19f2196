"""Absorbing splits into convolutions keeps the function of a multilevel split, or is refused with the reason."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgeact.clip import ClipSpec
from edgeact.export.graph.passes.absorb_split_into_conv import AbsorbSplitIntoConv
from edgeact.export.graph.passes.apply import apply_rewrites
from edgeact.export.graph.passes.base import Refusal, RewriteOutcome
from edgeact.export.graph.proto import from_proto, to_bytes
from edgeact.export.graph.torch_to_onnx import at_opset, to_onnx
from edgeact.export.models.backbones.msf import MultiLevelSplit
from tests.export.graph.graphs import graph_proto as graph
from tests.export.graph.graphs import node
from tests.export.graph.passes.running import run

RULE = (AbsorbSplitIntoConv(),)


def _cascade(
    piece: int, keep: int, carry: int, outputs: tuple[int, int], kernel: tuple[int, int, int]
) -> onnx.ModelProto:
    """Two pieces of x: one rectified, split and joined to the other, convolved, rectified and split."""
    rng = np.random.default_rng(0)
    constants = {
        "pieces": np.array([keep + carry, piece], np.int64),
        "halves": np.array([keep, carry], np.int64),
        "next": np.array(outputs, np.int64),
        "w": rng.normal(size=(sum(outputs), piece + carry, *kernel)).astype(np.float32),
        "b": rng.normal(size=sum(outputs)).astype(np.float32),
    }
    nodes = [
        node("Split", ["x", "pieces"], ["first", "second"], "pieces", axis=1),
        node("Relu", ["first"], ["y1"], "relu"),
        node("Split", ["y1", "halves"], ["kept", "carried"], "halves", axis=1),
        node("Concat", ["second", "carried"], ["joined"], "join", axis=1),
        node("Conv", ["joined", "w", "b"], ["c"], "conv", kernel_shape=kernel, pads=[side // 2 for side in kernel] * 2),
        node("Relu", ["c"], ["z"], "relu 2"),
        node("Split", ["z", "next"], ["kept2", "carried2"], "next halves", axis=1),
        node("Concat", ["kept", "kept2", "carried2"], ["y"], "final", axis=1),
    ]
    return graph(nodes, constants, shape=(1, piece + keep + carry, 3, 4, 5))


@settings(max_examples=60)
@given(
    piece=st.integers(1, 9),
    keep=st.integers(1, 5),
    carry=st.integers(1, 5),
    outputs=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    kernel=st.tuples(*[st.sampled_from([1, 3, 5])] * 3),
)
def test_the_cascade_remains_the_same(
    piece: int, keep: int, carry: int, outputs: tuple[int, int], kernel: tuple[int, int, int]
) -> None:
    model = from_proto(_cascade(piece, keep, carry, outputs, kernel))
    rewritten, outcomes = apply_rewrites(model, RULE)
    assert outcomes == [RewriteOutcome("absorb_split_into_conv")]
    x = np.random.default_rng(1).normal(size=(1, piece + keep + carry, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, x), run(model, x), rtol=1e-4, atol=1e-4)
    assert (_splits(model), _splits(rewritten)) == (3, 2)


def _splits(model: ir.Model) -> int:
    return sum(entry.op_type == "Split" for entry in model.graph)


def test_absorption_that_needs_more_tiles_is_refused() -> None:
    plan = AbsorbSplitIntoConv().check(from_proto(_cascade(4, 8, 4, (8, 4), (1, 1, 1))))
    assert plan == Refusal("identity filters within the tiles of 16 that 12 outputs fill", "8 more outputs", "conv")


def _changed(change: str) -> onnx.ModelProto:
    model = _cascade(4, 2, 2, (4, 4), (3, 3, 3))
    by_name = {entry.name: entry for entry in model.graph.node}
    if change == "no ReLU":
        by_name["relu"].op_type = "Tanh"
    elif change == "joined the other way":
        by_name["join"].input[:] = ["carried", "second"]
    elif change == "kept apart":
        by_name["final"].input[:] = ["kept", "carried2", "kept2"]
    elif change == "the next half read by another":
        model.graph.node.append(node("Relu", ["kept2"], ["unrelated"], "reader"))
    else:
        model.graph.node.append(node("Relu", ["carried"], ["unrelated"], "reader"))
    return model


@pytest.mark.parametrize(
    "change", ["no ReLU", "joined the other way", "kept apart", "read by another", "the next half read by another"]
)
def test_another_arrangement_is_refused_and_left_alone(change: str) -> None:
    model = from_proto(_changed(change))
    before = to_bytes(model)
    plan = AbsorbSplitIntoConv().check(model)
    assert plan == Refusal("a split whose second part is concatenated and convolved", "none")
    assert to_bytes(model) == before


def test_a_split_into_equal_parts_is_given_their_sizes() -> None:
    """As torch.chunk becomes one: without a second input."""
    proto = _cascade(4, 3, 3, (4, 4), (3, 3, 3))
    for entry in proto.graph.node:
        if entry.name in ("halves", "next halves"):
            del entry.input[1:]
    model = from_proto(proto)
    rewritten, (outcome,) = apply_rewrites(model, RULE)
    assert outcome.is_applied
    x = np.random.default_rng(1).normal(size=(1, 10, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, x), run(model, x), rtol=1e-4, atol=1e-4)


def test_of_two_steps_that_share_a_split_the_first_is_absorbed() -> None:
    """A narrow cascade whose second half is split, carried and convolved once more."""
    model = from_proto(_two_steps())
    plan = AbsorbSplitIntoConv().check(model)
    assert not isinstance(plan, Refusal)
    assert [step.split.name for step in plan] == ["halves"]
    rewritten, (outcome,) = apply_rewrites(model, RULE)
    assert outcome.is_applied
    x = np.random.default_rng(1).normal(size=(1, 10, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, x), run(model, x), rtol=1e-4, atol=1e-4)


def _two_steps() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    constants = {
        "pieces": np.array([4, 3, 3], np.int64),
        "halves": np.array([2, 2], np.int64),
        "w": rng.normal(size=(4, 5, 1, 1, 1)).astype(np.float32),
        "w2": rng.normal(size=(4, 5, 1, 1, 1)).astype(np.float32),
    }
    nodes = [
        node("Split", ["x", "pieces"], ["first", "second", "third"], "pieces", axis=1),
        node("Relu", ["first"], ["y1"], "relu"),
        node("Split", ["y1", "halves"], ["kept", "carried"], "halves", axis=1),
        node("Concat", ["second", "carried"], ["joined"], "join", axis=1),
        node("Conv", ["joined", "w"], ["c"], "conv", kernel_shape=[1] * 3),
        node("Relu", ["c"], ["z"], "relu 2"),
        node("Split", ["z", "halves"], ["kept2", "carried2"], "next halves", axis=1),
        node("Concat", ["third", "carried2"], ["joined2"], "join 2", axis=1),
        node("Conv", ["joined2", "w2"], ["c2"], "conv 2", kernel_shape=[1] * 3),
        node("Relu", ["c2"], ["z2"], "relu 3"),
        node("Split", ["z2", "halves"], ["kept3", "carried3"], "last halves", axis=1),
        node("Concat", ["kept", "kept2", "kept3", "carried3"], ["y"], "final", axis=1),
    ]
    return graph(nodes, constants, shape=(1, 10, 3, 4, 5))


class _Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.split = nn.Conv3d(3, 64, 1), MultiLevelSplit(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.split(torch.relu(self.first(x)))
        return y.mean(dim=(2, 3, 4))


def test_the_paper_s_split_of_64_channels_has_one_such_step() -> None:
    torch.manual_seed(0)
    clip = ClipSpec(clip_frames=2, fps=5.0, resize=(8, 8), crop=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    plan = AbsorbSplitIntoConv().check(at_opset(to_onnx(_Branches(), clip), 17))
    assert not isinstance(plan, Refusal)
    assert [(step.piece, step.keep, step.carry, step.next_keep, step.next_carry) for step in plan] == [
        (16, 8, 8, 12, 12)
    ]
