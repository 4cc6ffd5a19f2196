"""Extrema measured inside the graph equal the extrema of the tensors."""

from __future__ import annotations

import numpy as np
import pytest

from edgeact.errors import ConversionError
from edgeact.export.graph.activation_extrema import largest_values
from edgeact.export.graph.proto import to_bytes
from tests.export.graph.graphs import Conv, conv, graph, node
from tests.messages import names


def test_largest_values_over_all_samples_are_those_of_the_tensors() -> None:
    nodes = [node("Mul", ["x", "s"], ["a"]), node("Relu", ["a"], ["y"])]
    model = graph(nodes, {"s": np.float32(-3.0)}, shape=(1, 4))
    samples = [np.array([row], np.float32) for row in ([1, -2, 0, 5], [-7, 0.5, 0, 0])]
    assert largest_values(model, iter(samples)) == {"x": 7.0, "a": 21.0, "y": 21.0}


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_quantized_volumes_are_measured_in_every_opset(opset: int) -> None:
    model = conv(Conv(quantized=True, opset=opset))
    largest = largest_values(model, [np.full((1, 16, 4, 8, 8), 100.0, np.float32)])
    assert largest["x"] == 100.0
    assert largest["x_back"] == pytest.approx(127 * 0.05)  # the quantizer saturates
    assert set(largest) == {"x", "x_back", "w", "y"}


def test_overflow_of_fp32_itself_names_the_layer() -> None:
    nodes = [node("Mul", ["x", "s"], ["a"], "harmless"), node("Exp", ["a"], ["y"], "the_explosion")]
    model = graph(nodes, {"s": np.float32(100.0)}, shape=(1, 4))
    with pytest.raises(ConversionError, check=names("'the_explosion' (Exp): expected finite FP32 values", "got inf")):
        largest_values(model, [np.ones((1, 4), np.float32)])


def test_no_sample_is_refused() -> None:
    with pytest.raises(ConversionError, check=names("at least one sample clip")):
        largest_values(conv(Conv()), [])


def test_model_is_left_as_it_was() -> None:
    model = conv(Conv())
    before = to_bytes(model)
    largest_values(model, [np.ones((1, 16, 4, 8, 8), np.float32)])
    assert to_bytes(model) == before
