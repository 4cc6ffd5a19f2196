"""What the activations of a float graph that INT8 rounds range over, observed on clips."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgeact.calibration.histogram import EMPTY, Histogram, count_magnitudes
from edgeact.calibration.range_methods import METHODS, MethodName
from edgeact.calibration.ranges import Ranges, TensorRange, checkpoints, settled
from edgeact.devices import usable_cores
from edgeact.errors import CalibrationError, ConversionError
from edgeact.export.graph.view import GraphView, view
from edgeact.extras import require
from edgeact.progress import OnProgress

__all__ = ["QUANTIZED_OPS", "collect_ranges", "observe", "quantized_tensors"]

QUANTIZED_OPS = ("Conv", "Gemm", "MatMul")

Clip = npt.NDArray[np.float32]

_MOST_WORKERS = 8
_MOST_BYTES = 1 << 30


def collect_ranges(
    model: onnx.ModelProto,
    clips: Sequence[Clip],
    method: MethodName = "minmax",
    skip: Collection[str] = (),
    on_progress: OnProgress | None = None,
) -> Ranges:
    """The ranges of every activation of `model` that INT8 would round, layers named in `skip` left out.

    Each clip is float32 of the graph's own input shape. The same arguments give the same ranges on any number of
    cores. Memory: one clip a core at a time, and of their activations at most 1 GiB together; no clip's are kept.
    Raises CalibrationError where there is no clip, a clip does not fit or is not finite, or an activation is not
    finite; ConversionError where the graph cannot be run.
    """
    return observe(model, quantized_tensors(model, skip), clips, method, on_progress)


def observe(
    model: onnx.ModelProto,
    layers: Mapping[str, str],
    clips: Sequence[Clip],
    method: MethodName,
    on_progress: OnProgress | None = None,
) -> Ranges:
    """The ranges of the tensors named in `layers` (tensor -> layer) alone; otherwise as `collect_ranges`."""
    _check_fit(model, clips)
    workers = min(_MOST_WORKERS, usable_cores())
    parts = _parts(model, layers, _MOST_BYTES // workers)
    tensors: dict[str, TensorRange] = {}
    for index, part in enumerate(parts):
        observer = _Observer(model, part, workers)
        limits: dict[str, dict[int, float]] = {name: {} for name in part}
        for start, stop in itertools.pairwise((0, *checkpoints(len(clips)))):
            for done, _ in enumerate(observer.watch(clips[start:stop]), start=index * len(clips) + start + 1):
                if on_progress:
                    on_progress(done, len(parts) * len(clips))
            for name, histogram in observer.seen.items():
                limits[name][stop] = METHODS[method](histogram)
        tensors |= {name: _range(part[name], observer.seen[name], limits[name]) for name in part}
    return Ranges(method=method, clips=len(clips), tensors=tensors)


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


def _range(layer: str, seen: Histogram, limits: Mapping[int, float]) -> TensorRange:
    limit = float(np.float32(limits[max(limits)]))  # as the graph will hold it
    last_change, settled_after = settled(limits)
    return TensorRange(
        layer=layer,
        low=seen.low,
        high=seen.high,
        limit=limit,
        clipped=seen.share_above(limit),
        last_change=last_change,
        settled_after=settled_after,
    )


def _parts(model: onnx.ModelProto, layers: Mapping[str, str], most_bytes: int) -> list[dict[str, str]]:
    """`layers` in parts whose tensors of one clip take at most `most_bytes` together, a larger one by itself."""
    shapes = view(model).shapes
    parts: list[dict[str, str]] = []
    room = 0
    for name, layer in layers.items():
        size = 4 * math.prod(dim or 1 for dim in shapes.get(name, ()))
        if not parts or size > room:
            parts.append({})
            room = most_bytes
        parts[-1][name] = layer
        room -= size
    return parts


class _Observer:
    """Runs a graph up to some of its tensors, several clips at once, and counts their values."""

    def __init__(self, model: onnx.ModelProto, layers: Mapping[str, str], workers: int) -> None:
        self._workers = workers
        self.seen = dict.fromkeys(layers, EMPTY)
        self._layers = layers
        self._input = model.graph.input[0].name
        self._outputs = [name for name in layers if name != self._input]
        self._session = _session(model, self._outputs) if self._outputs else None
        self._lock = threading.Lock()

    def watch(self, clips: Sequence[Clip]) -> Iterator[None]:
        """Count the clips, and yield after every one."""
        with ThreadPoolExecutor(self._workers) as pool:
            yield from pool.map(self._look, clips)

    def _look(self, clip: Clip) -> None:
        values = self._session.run(self._outputs, {self._input: clip}) if self._session else []
        tensors = dict(zip(self._outputs, values, strict=True))
        if self._input in self._layers:
            tensors[self._input] = clip
        del values
        while tensors:
            name, array = tensors.popitem()
            found = count_magnitudes(array)
            if not np.isfinite((found.low, found.high)).all():
                raise CalibrationError(
                    f"the range of '{name}' on the calibration clips is not usable: layer '{self._layers[name]}' gives "
                    f"{found.low} to {found.high}; check the weights, or calibrate on clips of the model's own data"
                )
            with self._lock:
                self.seen[name] += found


def _session(model: onnx.ModelProto, outputs: Sequence[str]) -> Any:
    """`model` with other outputs; one thread a run, for several clips run at once."""
    ort = require("onnxruntime", "export")
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # every tensor as the graph states
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes have no base but Exception
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConversionError(f"the graph to calibrate cannot be run: {reason}; export it again") from error


def _check_fit(model: onnx.ModelProto, clips: Sequence[Clip]) -> None:
    if not clips:
        raise CalibrationError("expected calibration clips, got none; give a larger data set")
    expected = tuple(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)
    for index, clip in enumerate(clips):
        if clip.shape != expected or clip.dtype != np.float32:
            raise CalibrationError(
                f"calibration clip {index}: expected float32 of shape {expected}, got {clip.dtype} of {clip.shape}; "
                "preprocess it by the model's own clip contract"
            )
        if not np.isfinite(clip).all():
            raise CalibrationError(f"calibration clip {index} holds NaN or infinity; expected finite pixels")
