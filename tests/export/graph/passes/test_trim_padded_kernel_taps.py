"""Kernel taps that read only padding are cut off, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
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


@st.composite
def _sides(draw: st.DrawFn) -> tuple[int, int, int, int, int, int]:
    """Draw an axis whose padded input is at least as long as the dilated kernel, as ONNX requires."""
    bounds = {"before": (0, 4), "after": (0, 4), "stride": (1, 3), "dilation": (1, 2), "kernel": (1, 5)}
    before, after, stride, dilation, kernel = (draw(st.integers(*each), label=name) for name, each in bounds.items())
    least = max(1, dilation * (kernel - 1) + 1 - before - after)
    size = draw(st.integers(least, max(4, least)), label="size")
    return size, kernel, before, after, stride, dilation


@pytest.mark.slow
@settings(max_examples=150)
@given(sides=st.lists(_sides(), min_size=3, max_size=3))
def test_trimmed_convolution_computes_the_same(sides: list[tuple[int, int, int, int, int, int]]) -> None:
    model = _conv(sides)
    is_refused = isinstance(TrimPaddedKernelTaps().check(model), Refusal)
    rewritten, (first,) = apply_rewrites(model, (TrimPaddedKernelTaps(),))
    assert first.is_applied != is_refused
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
def test_a_convolution_without_taps_in_the_padding_is_refused(model: ir.Model) -> None:
    plan = TrimPaddedKernelTaps().check(model)
    assert plan == Refusal("a convolution with kernel taps that read only padding", "none")
