"""Ranges of the activations of a float graph that INT8 quantizes, observed on clips."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeact.calibration.histogram import EMPTY, Histogram, count_magnitudes
from edgeact.calibration.range_methods import METHODS, MethodName
from edgeact.calibration.ranges import Ranges, TensorRange, checkpoints, settled
from edgeact.devices import usable_cores
from edgeact.errors import CalibrationError
from edgeact.export.graph.run import GraphRunner
from edgeact.export.graph.values import describe_dims, dims_of, given_inputs, is_constant, name_of, operand, static_dims
from edgeact.progress import OnProgress

__all__ = ["QUANTIZED_OPS", "RANGES_VERSION", "collect_ranges", "observe", "quantized_tensors"]

QUANTIZED_OPS = ("Conv", "Gemm", "MatMul")

RANGES_VERSION = 1
"""Version of the ranges that the same graph, clips and method give: raise it with every change of their values.

It is part of the cache's key, and tests/export/quantize/test_calibrator.py pins the values.
"""

Clip = npt.NDArray[np.float32]

_MAX_WORKERS = 8
_MAX_BYTES = 1 << 30


def collect_ranges(
    model: ir.Model,
    clips: Sequence[Clip],
    method: MethodName = "minmax",
    excluded: Collection[str] = (),
    on_progress: OnProgress | None = None,
) -> Ranges:
    """Return the ranges of every activation of `model` that INT8 quantizes, without layers in `excluded`.

    Each clip is float32 of the graph's input shape. The same arguments give the same ranges on any number of cores.
    Memory: one clip per core at a time, and at most 1 GiB of activations in all; no activation is kept.
    Raises CalibrationError without clips, if a clip has another shape, or if a clip or an activation is not finite;
    ConversionError if the graph cannot be run.
    """
    return observe(model, quantized_tensors(model, excluded), clips, method, on_progress)


def observe(
    model: ir.Model,
    layers: Mapping[str, str],
    clips: Sequence[Clip],
    method: MethodName,
    on_progress: OnProgress | None = None,
) -> Ranges:
    """Return the ranges of the tensors named in `layers` (tensor -> layer) only; otherwise as `collect_ranges`."""
    _check_fit(model, clips)
    workers = min(_MAX_WORKERS, usable_cores())
    parts = _parts(model, layers, _MAX_BYTES // workers)
    tensors: dict[str, TensorRange] = {}
    for index, part in enumerate(parts):
        observer = _Observer(model, part, workers)
        limits: dict[str, dict[int, float]] = {name: {} for name in part}
        for start, stop in itertools.pairwise((0, *checkpoints(len(clips)))):
            for done, _ in enumerate(observer.watch(clips[start:stop]), start=index * len(clips) + start + 1):
                if on_progress:
                    on_progress(done, len(parts) * len(clips))
            for name, histogram in observer.histograms.items():
                limits[name][stop] = METHODS[method](histogram)
        tensors |= {name: _range(part[name], observer.histograms[name], limits[name]) for name in part}
    return Ranges(method=method, clips=len(clips), tensors=tensors)


def quantized_tensors(model: ir.Model, excluded: Collection[str] = ()) -> dict[str, str]:
    """Return activation -> layer, for the inputs and outputs of all layers but the excluded; the first layer wins.

    A product of two activations has two inputs.
    """
    layers: dict[str, str] = {}
    for node in model.graph:
        if node.op_type in QUANTIZED_OPS and node.name not in excluded:
            read = given_inputs(node) if node.op_type == "MatMul" else [operand(node, 0)]
            for value in (*read, *node.outputs):
                if value.dtype == ir.DataType.FLOAT and not is_constant(value):
                    layers.setdefault(name_of(value), name_of(node))
    return layers


def _range(layer: str, histogram: Histogram, limits: Mapping[int, float]) -> TensorRange:
    limit = float(np.float32(limits[max(limits)]))  # the precision of the graph's scale
    last_change, settled_after = settled(limits)
    return TensorRange(
        layer=layer,
        low=histogram.low,
        high=histogram.high,
        limit=limit,
        clipped=histogram.share_above(limit),
        last_change=last_change,
        settled_after=settled_after,
    )


def _parts(model: ir.Model, layers: Mapping[str, str], max_bytes: int) -> list[dict[str, str]]:
    """Split `layers` into parts whose tensors of one clip take at most `max_bytes`; a larger tensor is a part."""
    values = ir.convenience.create_value_mapping(model.graph)
    parts: list[dict[str, str]] = []
    room = 0
    for name, layer in layers.items():
        size = 4 * math.prod(dim or 1 for dim in dims_of(values[name]) or ())
        if not parts or size > room:
            parts.append({})
            room = max_bytes
        parts[-1][name] = layer
        room -= size
    return parts


class _Observer:
    """Runs a graph up to the given tensors, several clips at a time, and counts their values in histograms."""

    def __init__(self, model: ir.Model, layers: Mapping[str, str], workers: int) -> None:
        self._workers = workers
        self.histograms = dict.fromkeys(layers, EMPTY)
        self._layers = layers
        self._input = name_of(model.graph.inputs[0])
        self._outputs = [name for name in layers if name != self._input]
        self._runner = GraphRunner(_with_outputs(model, self._outputs), threads=1) if self._outputs else None
        self._lock = threading.Lock()

    def watch(self, clips: Sequence[Clip]) -> Iterator[None]:
        """Count the values of all clips; yields after each clip."""
        with ThreadPoolExecutor(self._workers) as pool:
            yield from pool.map(self._count, clips)

    def _count(self, clip: Clip) -> None:
        values = self._runner.run(self._outputs, {self._input: clip}) if self._runner else []
        tensors = dict(zip(self._outputs, values, strict=True))
        if self._input in self._layers:
            tensors[self._input] = clip
        del values
        while tensors:
            name, array = tensors.popitem()
            histogram = count_magnitudes(array)
            if not np.isfinite((histogram.low, histogram.high)).all():
                raise CalibrationError(
                    f"the range of '{name}' on the calibration clips is not usable: layer '{self._layers[name]}' gives "
                    f"{histogram.low} to {histogram.high}; check the weights, or calibrate on clips of the training "
                    "data"
                )
            with self._lock:
                self.histograms[name] += histogram


def _with_outputs(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """Return a copy of `model` with other outputs."""
    copy = model.clone()
    values = ir.convenience.create_value_mapping(copy.graph)
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[name] for name in names)
    return copy


def _check_fit(model: ir.Model, clips: Sequence[Clip]) -> None:
    if not clips:
        raise CalibrationError("expected calibration clips, got none; give a larger data set")
    expected, shape = static_dims(model.graph.inputs[0]), describe_dims(model.graph.inputs[0])
    for index, clip in enumerate(clips):
        if clip.shape != expected or clip.dtype != np.float32:
            raise CalibrationError(
                f"calibration clip {index}: expected float32 of shape {shape}, got {clip.dtype} of {clip.shape}; "
                "preprocess it by the clip contract of the model"
            )
        if not np.isfinite(clip).all():
            raise CalibrationError(f"calibration clip {index} holds NaN or infinity; expected finite pixels")
