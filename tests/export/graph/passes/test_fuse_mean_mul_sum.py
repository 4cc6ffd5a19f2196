"""The fused weighted sum equals mean, product and sum for any axes and weights, or is refused."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.export.graph.passes.apply import apply_rewrites
from edgeact.export.graph.passes.base import Refusal
from edgeact.export.graph.passes.fuse_mean_mul_sum import FuseMeanMulSum
from edgeact.export.graph.proto import from_proto, to_bytes
from tests.export.graph.graphs import graph_proto as graph
from tests.export.graph.graphs import node
from tests.export.graph.passes.running import run

SHAPE = (1, 4, 3, 5, 2)
AXES = [axes for count in (1, 2) for axes in itertools.combinations(range(1, 5), count)]


def _chain(
    averaged: tuple[int, ...] = (2,), summed: tuple[int, ...] = (2, 3), weights: Any = None, **changes: Any
) -> onnx.ModelProto:
    left = [size for axis, size in enumerate(SHAPE) if axis not in averaged]
    values = np.random.default_rng(0).normal(size=left if weights is None else weights).astype(np.float32)
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=list(averaged), keepdims=changes.get("mean_dims", 0)),
        node("Mul", ["c", "m"] if changes.get("swapped") else ["m", "c"], ["p"]),
        node("ReduceSum", ["p", "axes"], ["y"], keepdims=changes.get("sum_dims", 0)),
    ]
    return graph(nodes, {"c": values, "axes": np.array(summed, np.int64)}, shape=SHAPE)


@settings(max_examples=60)
@given(averaged=st.sampled_from(AXES), swapped=st.booleans(), data=st.data())
def test_the_sum_remains_the_same(averaged: tuple[int, ...], swapped: bool, data: st.DataObject) -> None:
    left = [size for axis, size in enumerate(SHAPE) if axis not in averaged]
    summed = data.draw(st.sets(st.integers(-len(left), len(left) - 1), min_size=1, max_size=2))
    if len({axis % len(left) for axis in summed}) < len(summed):
        summed = {min(summed)}
    rank = data.draw(st.integers(0, len(left)))
    weights = [data.draw(st.sampled_from([1, size])) for size in left[len(left) - rank :]]
    model = from_proto(_chain(averaged, tuple(summed), weights, swapped=swapped))
    rewritten, (outcome,) = apply_rewrites(model, (FuseMeanMulSum(),))
    assert outcome.is_applied
    x = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, x), run(model, x), rtol=1e-4, atol=1e-5)
    assert [entry.op_type for entry in rewritten.graph] == ["Mul", "ReduceSum"]


def _computed_weights() -> onnx.ModelProto:
    model = _chain()
    model.graph.node.insert(0, node("Relu", ["c"], ["computed"], "relu"))
    model.graph.node[2].input[1] = "computed"
    return model


def _read_twice() -> onnx.ModelProto:
    model = _chain()
    model.graph.node.append(node("Relu", ["m"], ["other"], "reader"))
    return model


@pytest.mark.parametrize(
    "model",
    [_chain(mean_dims=1), _chain(sum_dims=1), _computed_weights(), _read_twice()],
    ids=["mean keeps axes", "sum keeps axes", "computed weights", "mean read twice"],
)
def test_others_are_refused_and_left_alone(model: onnx.ModelProto) -> None:
    whole = from_proto(model)
    before = to_bytes(whole)
    assert FuseMeanMulSum().check(whole) == Refusal("a mean that is weighted by a constant and summed", "none")
    assert to_bytes(whole) == before
