"""What the activations of a float graph that INT8 rounds range over, observed on clips."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgeact.calibration.ranges import MethodName, Ranges, TensorRange
from edgeact.errors import CalibrationError, ConversionError
from edgeact.export.convert.graph_view import GraphView, view
from edgeact.extras import require

__all__ = ["QUANTIZED_OPS", "collect_ranges", "observe", "quantized_tensors"]

QUANTIZED_OPS = ("Conv", "Gemm", "MatMul")
_PREFIX = "edgeact_range/"


def collect_ranges(
    model: onnx.ModelProto,
    clips: Iterable[npt.NDArray[np.float32]],
    method: MethodName = "minmax",
    skip: Collection[str] = (),
) -> Ranges:
    """The ranges of every activation of `model` that INT8 would round, layers named in `skip` left out.

    Each clip is float32 of the graph's own input shape; none is kept. Only the extrema leave the graph, so memory
    stays at what running it takes. Raises CalibrationError where there is no clip, a clip does not fit or is not
    finite, or an activation is not finite; ConversionError where the graph cannot be run.
    """
    return observe(model, quantized_tensors(model, skip), clips, method)


def observe(
    model: onnx.ModelProto,
    layers: Mapping[str, str],
    clips: Iterable[npt.NDArray[np.float32]],
    method: MethodName,
) -> Ranges:
    """The ranges of the tensors named in `layers` (tensor -> layer) alone; otherwise as `collect_ranges`."""
    count, extrema = 0, np.zeros((0, 2))
    observer = _Extrema(model, list(layers))
    for clip in clips:
        _check_fit(model, count, clip)
        found = observer.run(clip)
        extrema = found if count == 0 else _widest(extrema, found)
        count += 1
    if not count:
        raise CalibrationError("expected calibration clips, got none; give a larger data set")
    tensors = {}
    for (name, layer), (low, high) in zip(layers.items(), extrema.tolist(), strict=True):
        if not np.isfinite((low, high)).all():
            raise CalibrationError(
                f"the range of '{name}' on the calibration clips is not usable: layer '{layer}' gives {low} to {high}; "
                "check the weights, or calibrate on clips of the model's own data"
            )
        tensors[name] = TensorRange(layer=layer, low=low, high=high, limit=max(-low, high))
    return Ranges(method=method, clips=count, tensors=tensors)


def quantized_tensors(model: onnx.ModelProto, skip: Collection[str] = ()) -> dict[str, str]:
    """Activation -> layer, for what the layers outside `skip` read and make; the first layer where it is several's.

    Layers without constant weights count with both of their inputs where they are products.
    """
    graph = view(model)
    found: dict[str, str] = {}
    for node in graph.nodes:
        if node.op_type in QUANTIZED_OPS and node.name not in skip:
            read = node.input if node.op_type == "MatMul" else node.input[:1]
            for name in (*read, *node.output):
                if _is_activation(graph, name):
                    found.setdefault(name, node.name)
    return found


def _is_activation(graph: GraphView, name: str) -> bool:
    return name not in graph.constants and graph.types.get(name) == TensorProto.FLOAT


class _Extrema:
    """A graph that gives the smallest and largest values of tensors in place of its own outputs."""

    def __init__(self, model: onnx.ModelProto, names: Sequence[str]) -> None:
        measured = onnx.ModelProto()
        measured.CopyFrom(model)
        del measured.graph.output[:]
        for name in names:
            for end, op_type in (("low", "ReduceMin"), ("high", "ReduceMax")):
                output = f"{_PREFIX}{end}/{name}"
                measured.graph.node.append(helper.make_node(op_type, [name], [output], keepdims=0))
                measured.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
        self._input = model.graph.input[0].name
        self._session = _session(measured)

    def run(self, clip: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(low, high) of every tensor, float64 `(tensors, 2)`."""
        values: npt.NDArray[np.float64] = np.array(self._session.run(None, {self._input: clip}), np.float64)
        return values.reshape(-1, 2)


def _widest(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.stack([np.minimum(one[:, 0], other[:, 0]), np.maximum(one[:, 1], other[:, 1])], axis=1)


def _session(model: onnx.ModelProto) -> Any:
    ort = require("onnxruntime", "export")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # every tensor as the graph states
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes have no base but Exception
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConversionError(f"the graph to calibrate cannot be run: {reason}; export it again") from error


def _check_fit(model: onnx.ModelProto, index: int, clip: npt.NDArray[np.float32]) -> None:
    expected = tuple(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)
    if clip.shape != expected or clip.dtype != np.float32:
        raise CalibrationError(
            f"calibration clip {index}: expected float32 of shape {expected}, got {clip.dtype} of {clip.shape}; "
            "preprocess it by the model's own clip contract"
        )
    if not np.isfinite(clip).all():
        raise CalibrationError(f"calibration clip {index} holds NaN or infinity; expected finite pixels")
