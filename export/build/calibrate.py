"""Calibration by itself: the activation ranges of a model on calibration clips, as a record."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from pydantic import Field

from edgeact.bundle import Calibration
from edgeact.calibration.ranges import Ranges
from edgeact.errors import ConversionError
from edgeact.export.build.pipeline import build, through
from edgeact.export.build.recipe import Recipe
from edgeact.export.build.state import Build
from edgeact.export.graph.values import weight_names
from edgeact.progress import Callbacks
from edgeact.records import Record

__all__ = ["CalibrationRecord", "calibrate"]


class CalibrationRecord(Record):
    """Activation ranges, and the data they were observed on."""

    schema_version: str = "1.0"
    model: str
    weights_sha256: str
    provenance: Calibration
    motion: tuple[float, ...] = Field(description="mean absolute difference of neighboring frames, of every clip")
    left_out: Mapping[str, int] = Field(description="why videos were left out -> how many")
    modules: Mapping[str, str] = Field(description="layer of the graph -> module of the model, where it has weights")
    ranges: Ranges
    settled_after: int | None = Field(description="clips; None: some ranges still moved")
    unsettled: tuple[str, ...] = Field(description="tensors whose range still moved, the furthest first")


def calibrate(recipe: Recipe, callbacks: Callbacks | None = None) -> CalibrationRecord:
    """Return the ranges that an INT8 export by the same recipe quantizes with, from the cache if they are there.

    Raises DataError, ModelError and ConversionError, each naming expected and got.
    """
    return _record(build(recipe, through("calibrate"), callbacks))


def _record(built: Build) -> CalibrationRecord:
    model, data, calibrator = built.model, built.inputs.data, built.lowered.inputs.calibrator
    if calibrator is None:
        raise ConversionError(f"'{model.name}': expected an INT8 recipe to calibrate, got {built.recipe.precision}")
    ranges = calibrator.ranges
    settling = {"settled_after": ranges.settled_after, "unsettled": len(ranges.unsettled)}
    return CalibrationRecord(
        model=model.name,
        weights_sha256=model.weights_sha256,
        provenance=data.provenance.model_copy(update=settling),
        motion=data.calibration.motions,
        left_out=dict(data.calibration.skipped),
        modules=_modules(built.lowered.inputs.master, ranges),
        ranges=ranges,
        settled_after=ranges.settled_after,
        unsettled=ranges.unsettled,
    )


def _modules(master: ir.Model, ranges: Ranges) -> dict[str, str]:
    """Return the module that the weight of each layer of the graph belongs to."""
    layers = {tensor.layer for tensor in ranges.tensors.values()}
    weights = weight_names(master)
    return {layer: weight.removesuffix(".weight") for layer, weight in weights.items() if layer in layers}
