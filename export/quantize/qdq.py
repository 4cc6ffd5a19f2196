"""Static symmetric INT8: Q/DQ around convolutions and linear layers of an FP32 ONNX graph, with scales from ranges.

The result is the common form that TensorRT 8.5 to 11, OpenVINO and ONNX Runtime all accept: int8 weights per output
channel, int8 activations per tensor, every zero point 0, biases left in FP32 (TensorRT has no INT32 DequantizeLinear).
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorData, TensorsData

from edgeact.calibration.range_methods import MethodName
from edgeact.calibration.ranges import Ranges
from edgeact.errors import CalibrationError, ConversionError
from edgeact.export.graph.proto import from_proto
from edgeact.export.graph.values import name_of, operand, required_array
from edgeact.export.quantize.activation_ranges import QUANTIZED_OPS, quantized_tensors
from edgeact.layer_reasons import FloatReason

__all__ = ["MIN_CLASSES", "MIN_CLIPS", "SMALLEST_SCALE", "check_clips", "describe", "float_layers", "quantize"]

MIN_CLIPS = 32
MIN_CLASSES = 2
# Just above FP16's smallest normal number, 2**-14: an FP16 graph holds its scales in FP16, with fewer digits below.
SMALLEST_SCALE = 6.2e-5
_ANY_LIMIT = 1.0  # of an activation that is always 0: every scale represents it
_EXTRA_OPTIONS: dict[str, Any] = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": False,
}


def describe(method: MethodName) -> str:
    """Return the description of quantization with ranges by `method`, for the provenance of a bundle."""
    return f"static, symmetric int8, {method} ranges; weights per channel, activations per tensor"


def check_clips(count: int, classes: int, *, accept_poor: bool) -> None:
    """Raise CalibrationError for fewer than MIN_CLIPS clips or MIN_CLASSES classes, unless the user accepts them."""
    if classes < MIN_CLASSES and not accept_poor:
        raise CalibrationError(
            f"expected calibration clips of at least {MIN_CLASSES} classes, got {classes}; give data of all classes, "
            "or --accept-poor-calibration to go on with ranges that may be far off"
        )
    if count < MIN_CLIPS and not accept_poor:
        raise CalibrationError(
            f"expected at least {MIN_CLIPS} calibration clips, got {count}; ask for more with --clips, "
            "give a larger data set, or give --accept-poor-calibration to go on with ranges that may be far off"
        )


def quantize(model: ir.Model, ranges: Ranges, excluded: Collection[str]) -> ir.Model:
    """Return a copy of `model` with Q/DQ nodes; the layers named in `excluded` are kept in float.

    `ranges` may contain more tensors than `model`. Equal arguments give equal bytes. An activation that is 0 on all
    clips, as in a dead branch, gets an arbitrary scale.
    Raises CalibrationError if an activation to quantize has no range, ConversionError if the quantizer refuses the
    graph.
    """
    _check_ranges(model, ranges, excluded)
    # The quantizer computes a scale for every given range, needed or not.
    limits = {name: np.float32(ranges.tensors[name].limit or _ANY_LIMIT) for name in quantized_tensors(model, excluded)}
    tensors = {name: TensorData(lowest=-limit, highest=limit) for name, limit in limits.items()}
    try:
        with _quiet():
            quantizer = QDQQuantizer(
                ir.to_proto(model),
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QInt8,
                tensors_range=TensorsData(CalibrationMethod.MinMax, tensors),
                nodes_to_quantize=[],
                nodes_to_exclude=list(excluded),
                op_types_to_quantize=list(QUANTIZED_OPS),
                extra_options=_EXTRA_OPTIONS,
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
    except Exception as error:  # ONNX Runtime's exceptions derive from Exception only
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConversionError(f"INT8 quantization failed: {reason}; try --precision fp16 or fp32") from error
    proto: onnx.ModelProto = quantizer.model.model
    del proto.metadata_props[:]
    for tensor in proto.graph.initializer:
        tensor.ClearField("data_location")  # the quantizer stores its copy in a temporary folder
    result = from_proto(proto)
    _check_weight_scales(result)
    _raise_weight_scales(result)
    return result


def float_layers(model: ir.Model, excluded: Mapping[str, FloatReason]) -> dict[str, FloatReason]:
    """Return the layers of `excluded` that `model` contains, with reasons, in graph order."""
    return {name: excluded[name] for node in model.graph if (name := name_of(node)) in excluded}


def _scales(model: ir.Model) -> Iterator[tuple[ir.Value, ir.Value, npt.NDArray[np.float32]]]:
    """Yield the quantized tensor, its scale and the scale's values of every QuantizeLinear."""
    for node in model.graph:
        if node.op_type == "QuantizeLinear":
            scale = operand(node, 1)
            yield operand(node, 0), scale, required_array(scale)


def _check_ranges(model: ir.Model, ranges: Ranges, excluded: Collection[str]) -> None:
    for name, layer in quantized_tensors(model, excluded).items():
        if name not in ranges.tensors:
            raise CalibrationError(
                f"layer '{layer}': expected a calibrated range for '{name}', got none; calibrate this graph"
            )


def _check_weight_scales(quantized: ir.Model) -> None:
    for value, _, scale in _scales(quantized):
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise CalibrationError(_unusable(name_of(value), f"its scale is {scale.min()}"))


def _unusable(tensor: str, why: str) -> str:
    return (
        f"the range of '{tensor}' on the calibration clips is not usable: {why}; "
        "check the weights, or calibrate on clips of the data that the model was trained on"
    )


def _raise_weight_scales(model: ir.Model) -> None:
    """Raise the scales of nearly empty weight channels to SMALLEST_SCALE, in place.

    The weights are still in float in front of their QuantizeLinear, so the pair remains consistent.
    """
    for value, scale, array in _scales(model):
        if value.is_initializer() and (array < SMALLEST_SCALE).any():
            scale.const_value = ir.tensor(np.maximum(array, np.float32(SMALLEST_SCALE)), name=scale.name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the quantizer's advice on standard output and the root logger: the graph is prepared already."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
