"""INT8 graphs with integer flow, as the target cpu makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from edgeact.calibration.ranges import Ranges
from edgeact.export.quantize.activation_ranges import collect_ranges, observe
from edgeact.export.quantize.fold_weights import fold_weights
from edgeact.export.quantize.qdq import quantize
from edgeact.export.quantize.qdq_placement import integer_flow

__all__ = ["integer"]


def integer(model: onnx.ModelProto, clips: Sequence[npt.NDArray[np.float32]]) -> onnx.ModelProto:
    """`model` in INT8, its ranges from `clips`."""
    ranges = collect_ranges(model, clips)

    def observed(tensors: Mapping[str, str]) -> Ranges:
        return observe(model, tensors, clips, "minmax")

    return fold_weights(integer_flow(quantize(model, ranges, {}), ranges, observed))
