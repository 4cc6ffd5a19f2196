"""How large the float tensors of an ONNX graph get on sample clips, without holding more than one activation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeact.errors import ConversionError
from edgeact.export.graph.view import GraphView, node_label, view
from edgeact.extras import require

__all__ = ["largest_values"]

_PREFIX = "edgeact_range/"


def largest_values(model: onnx.ModelProto, samples: Iterable[NDArray[np.float32]]) -> dict[str, float]:
    """Largest absolute value of every computed float32 tensor over all samples, by tensor name.

    Each sample is a float32 array of the graph's one input. The maxima are computed inside the graph, so memory
    stays at what running it takes. Raises ConversionError when there is no sample, or when a float32 tensor itself
    is not finite; the message names the first layer that makes it so.
    """
    graph = view(model)
    names = _float_tensors(graph)
    session = _session(_with_extrema(model, names))
    input_name = session.get_inputs()[0].name
    outputs = [f"{_PREFIX}{end}/{name}" for name in names for end in ("high", "low")]
    largest: dict[str, float] | None = None
    for sample in samples:
        values = np.abs(np.array(session.run(outputs, {input_name: sample}), dtype=np.float64))
        found = dict(zip(names, np.maximum(values[0::2], values[1::2]).tolist(), strict=True))
        _require_finite(graph, found)
        largest = found if largest is None else {name: max(largest[name], found[name]) for name in names}
    if largest is None:
        raise ConversionError("expected at least one sample clip to measure activations on, got none")
    return largest


def _float_tensors(graph: GraphView) -> list[str]:
    inputs = [value.name for value in graph.model.graph.input if value.name not in graph.constants]
    made = [name for node in graph.nodes if node.op_type != "Constant" for name in node.output if name]
    return [name for name in (*inputs, *made) if graph.types.get(name) == TensorProto.FLOAT]


def _with_extrema(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    for name in names:
        for end, op_type in (("high", "ReduceMax"), ("low", "ReduceMin")):
            output = f"{_PREFIX}{end}/{name}"
            measured.graph.node.append(helper.make_node(op_type, [name], [output], keepdims=0))
            measured.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    return measured


def _session(model: onnx.ModelProto) -> Any:
    ort = require("onnxruntime", "export")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # every tensor as the graph states
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _require_finite(graph: GraphView, largest: Mapping[str, float]) -> None:
    for name, value in largest.items():
        if not np.isfinite(value):
            node = graph.producers.get(name)
            layer = f"layer '{node_label(node)}' ({node.op_type})" if node else f"input '{name}'"
            raise ConversionError(
                f"{layer} gives {value} in FP32 on a sample clip; expected finite values; "
                "no precision can hold it: check the weights and how the clips are normalized"
            )
