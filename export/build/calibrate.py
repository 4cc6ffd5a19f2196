"""Calibration by itself: the ranges of a model's activations on clips, before anything is quantized by them."""

from __future__ import annotations

import onnx
from pydantic import Field
from torch import nn

from edgeact.bundle import Calibration
from edgeact.calibration.clips import ClipSample
from edgeact.calibration.range_cache import RangeCache
from edgeact.calibration.ranges import Ranges
from edgeact.errors import CalibrationError
from edgeact.export.build.data import DataPlan, gather_calibration
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.qdq import check_clips
from edgeact.progress import Callbacks
from edgeact.records import Record

__all__ = ["CalibrationRecord", "calibrate"]


class CalibrationRecord(Record):
    """What calibration found, and on what."""

    schema_version: str = "1.0"
    model: str
    weights_sha256: str
    provenance: Calibration
    motion: tuple[float, ...] = Field(description="mean absolute difference of neighbouring frames, of every clip")
    left_out: dict[str, int] = Field(description="why videos were left out -> how many")
    modules: dict[str, str] = Field(description="layer of the graph -> module of the model, where it has weights")
    ranges: Ranges
    settled_after: int | None = Field(description="clips; None: some ranges still moved")
    unsettled: tuple[str, ...] = Field(description="tensors whose range still moved, the furthest first")


def calibrate(
    source: str | nn.Module | None, load: LoadRequest, data: DataPlan, callbacks: Callbacks | None = None
) -> CalibrationRecord:
    """The ranges that an export of the same model with the same data would quantize by, from the cache where it can.

    Raises DataError, ModelError and ConversionError, each naming expected and got.
    """
    callbacks = callbacks or Callbacks()
    callbacks.begin("loading the model")
    model = load_model(source, load)
    for text in model.notes:
        callbacks.on_note(text)
    callbacks.begin("reading the data")
    sample, provenance, labels = gather_calibration(data, model.labels, model.clip, callbacks.on_progress)
    if data.spec is None and labels != model.labels:
        raise CalibrationError(
            f"'{model.name}' was not trained on {provenance.dataset}; give clips of its own data with --data DATA"
        )
    check_clips(len(sample), sample.classes, accept_poor=data.accept_poor)
    callbacks.begin("converting to ONNX")
    return _record(model, sample, provenance, _calibrator(model, sample, data, callbacks))


def _calibrator(model: LoadedModel, sample: ClipSample, data: DataPlan, callbacks: Callbacks) -> Calibrator:
    on_progress = callbacks.step("activation ranges")
    return Calibrator(to_onnx(model.module, model.clip), sample.inputs, data.method, RangeCache(), on_progress)


def _record(
    model: LoadedModel, sample: ClipSample, provenance: Calibration, calibrator: Calibrator
) -> CalibrationRecord:
    ranges = calibrator.ranges
    settling = {"settled_after": ranges.settled_after, "unsettled": len(ranges.unsettled)}
    return CalibrationRecord(
        model=model.name,
        weights_sha256=model.weights_sha256,
        provenance=provenance.model_copy(update=settling),
        motion=sample.motions,
        left_out=dict(sample.skipped),
        modules=_modules(calibrator.master, ranges),
        ranges=ranges,
        settled_after=ranges.settled_after,
        unsettled=ranges.unsettled,
    )


def _modules(master: onnx.ModelProto, ranges: Ranges) -> dict[str, str]:
    """Layers of the graph -> the module their weight belongs to."""
    weights = {tensor.name for tensor in master.graph.initializer}
    layers = {tensor.layer for tensor in ranges.tensors.values()}
    return {
        node.name: node.input[1].removesuffix(".weight")
        for node in master.graph.node
        if node.name in layers and len(node.input) > 1 and node.input[1] in weights
    }
