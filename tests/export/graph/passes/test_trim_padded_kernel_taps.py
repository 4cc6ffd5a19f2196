"""Kernel taps that read only padding are cut off, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgeact.export.graph.passes.apply import apply_rewrites
from edgeact.export.graph.passes.base import Refusal
from edgeact.export.graph.passes.trim_padded_kernel_taps import TrimPaddedKernelTaps
from edgeact.export.graph.proto import to_bytes
from tests.export.graph.graphs import graph, node
from tests.export.graph.passes.running import run


def _conv(sides: list[tuple[int, int, int, int, int, int]], **changes: Any) -> ir.Model:
    """Sides: (size, kernel, padding before, padding after, stride, dilation) of each axis."""
    size, kernel, before, after, strides, dilations = zip(*sides, strict=True)
    weight = np.random.default_rng(0).normal(size=(3, 2, *kernel)).astype(np.float32)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "pads": (*before, *after)}
    attributes |= {"strides": strides, "dilations": dilations, **changes}
    named = {name: value for name, value in attributes.items() if value is not None}
    return graph([node("Conv", ["x", "w"], ["y"], **named)], {"w": weight}, shape=(1, 2, *size))


SIDE = st.tuples(*(st.integers(*bounds) for bounds in ((1, 4), (1, 5), (0, 4), (0, 4), (1, 3), (1, 2))))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(sides=st.lists(SIDE, min_size=3, max_size=3))
def test_the_convolution_remains_the_same(sides: list[tuple[int, int, int, int, int, int]]) -> None:
    assume(all(n + b + a >= d * (k - 1) + 1 for n, k, b, a, _, d in sides))
    model = _conv(sides)
    plan = TrimPaddedKernelTaps().check(model)
    assume(not isinstance(plan, Refusal))
    rewritten, _ = apply_rewrites(model, (TrimPaddedKernelTaps(),))
    x = np.random.default_rng(1).normal(size=(1, 2, *(side[0] for side in sides))).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, x), run(model, x), atol=1e-5)
    again, (outcome,) = apply_rewrites(rewritten, (TrimPaddedKernelTaps(),))
    assert not outcome.is_applied
    assert to_bytes(again) == to_bytes(rewritten)


def test_one_time_step_leaves_a_third_of_the_kernel() -> None:
    model = _conv([(1, 3, 1, 1, 1, 1), (7, 3, 1, 1, 1, 1), (7, 3, 1, 1, 1, 1)])
    rewritten, _ = apply_rewrites(model, (TrimPaddedKernelTaps(),))
    (whole,), (kept,) = (list(each.graph.initializers.tensors()) for each in (model, rewritten))
    np.testing.assert_array_equal(kept.numpy(), whole.numpy()[:, :, 1:2])
    (conv,) = rewritten.graph
    assert conv.attributes.get_ints("pads") == (0, 1, 1, 0, 1, 1)


@pytest.mark.parametrize(
    "model",
    [
        _conv([(4, 3, 1, 1, 1, 1)] * 3),
        _conv([(1, 3, 1, 1, 1, 1)] * 3, pads=None, auto_pad="SAME_UPPER"),
    ],
    ids=["all alive", "automatic padding"],
)
def test_others_are_refused(model: ir.Model) -> None:
    plan = TrimPaddedKernelTaps().check(model)
    assert plan == Refusal("a convolution with kernel taps that read only padding", "none")
