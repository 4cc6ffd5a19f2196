"""Measure the largest absolute value of every float tensor of a graph, with one activation in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeact.errors import ConversionError
from edgeact.export.graph.run import GraphRunner
from edgeact.export.graph.values import is_constant, name_of, node_label

__all__ = ["largest_values"]

_PREFIX = "edgeact_range/"


def largest_values(model: ir.Model, samples: Iterable[NDArray[np.float32]]) -> dict[str, float]:
    """Return the largest absolute value of every computed float32 tensor over all samples, by tensor name.

    Each sample is a float32 array of the shape of the graph's only input. The extrema are computed inside the graph,
    so the memory is that of running the graph. `model` is not changed.
    Raises ConversionError if there is no sample, or if a float32 tensor is not finite, naming the first such layer.
    """
    producers = {name_of(value): value.producer() for value in _float_values(model)}
    runner = GraphRunner(_with_extrema(model))
    input_name = name_of(model.graph.inputs[0])
    outputs = [f"{_PREFIX}{end}/{name}" for name in producers for end in ("high", "low")]
    largest: dict[str, float] | None = None
    for sample in samples:
        extrema = np.abs(np.array(runner.run(outputs, {input_name: sample}), dtype=np.float64))
        sizes = dict(zip(producers, np.maximum(extrema[0::2], extrema[1::2]).tolist(), strict=True))
        _require_finite(producers, sizes)
        largest = sizes if largest is None else {name: max(largest[name], sizes[name]) for name in producers}
    if largest is None:
        raise ConversionError("expected at least one sample clip to measure activations on, got none")
    return largest


def _float_values(model: ir.Model) -> Iterator[ir.Value]:
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    return (value for value in values if value.dtype == ir.DataType.FLOAT and not is_constant(value))


def _with_extrema(model: ir.Model) -> ir.Model:
    measured = model.clone()
    for value in list(_float_values(measured)):
        for end, op_type in (("high", "ReduceMax"), ("low", "ReduceMin")):
            output = ir.val(f"{_PREFIX}{end}/{name_of(value)}", ir.DataType.FLOAT, ())
            measured.graph.append(ir.node(op_type, [value], {"keepdims": 0}, outputs=[output]))
            measured.graph.outputs.append(output)
    return measured


def _require_finite(producers: Mapping[str, ir.Node | None], largest: Mapping[str, float]) -> None:
    for name, size in largest.items():
        if not np.isfinite(size):
            node = producers[name]
            subject = f"layer '{node_label(node)}' ({node.op_type})" if node else f"input '{name}'"
            raise ConversionError(
                f"{subject}: expected finite FP32 values on the sample clips, got {size}; no precision can represent "
                "them: check the weights and the normalization of the clips"
            )
