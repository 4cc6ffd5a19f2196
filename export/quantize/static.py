"""Static symmetric INT8: Q/DQ around convolutions and linear layers of the FP32 ONNX graph, ranges from real clips.

The result is the one form that TensorRT 8.5 to 11, OpenVINO and ONNX Runtime all accept: int8 weights per output
channel, int8 activations per tensor, every zero point 0, biases left in FP32 (TensorRT has no INT32 DequantizeLinear).
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from edgeact.errors import CalibrationError, ConversionError
from edgeact.export.convert.ranges import largest_values

__all__ = ["METHOD", "MIN_CLIPS", "SMALLEST_SCALE", "check_clips", "float_layers", "quantize"]

METHOD = "static, symmetric int8, min-max ranges; weights per channel, activations per tensor"
MIN_CLIPS = 32
# Just above FP16's smallest normal number, 2**-14: an FP16 graph holds its scales in FP16, with fewer digits below.
SMALLEST_SCALE = 6.2e-5
_QUANTIZED_OPS = ("Conv", "Gemm", "MatMul")
_EXTRA_OPTIONS: dict[str, Any] = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": False,
}


def check_clips(count: int, *, accept_poor: bool) -> None:
    """Raise CalibrationError for fewer than MIN_CLIPS clips unless the user accepts it."""
    if count < MIN_CLIPS and not accept_poor:
        raise CalibrationError(
            f"expected at least {MIN_CLIPS} calibration clips, got {count}; give a larger data set, "
            "or --accept-poor-calibration to go on with ranges that may be far off"
        )


def quantize(
    model: onnx.ModelProto, clips: Sequence[npt.NDArray[np.float32]], skip: Mapping[str, str]
) -> onnx.ModelProto:
    """A copy of `model` with Q/DQ nodes; layers named in `skip` (layer -> reason) stay in float.

    Each clip is float32 of the graph's own input shape. The same model, clips and skip list give the same bytes.
    Raises CalibrationError where there is no clip, a clip does not fit or is not finite, or a tensor to be quantized
    is 0 on all clips; ConversionError where the quantizer refuses the graph.
    """
    _check_fit(model, clips)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        try:
            with _quiet():
                quantize_static(
                    source,
                    target,
                    _Reader(model.graph.input[0].name, clips),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=list(_QUANTIZED_OPS),
                    per_channel=True,
                    activation_type=QuantType.QInt8,
                    weight_type=QuantType.QInt8,
                    nodes_to_exclude=list(skip),
                    calibrate_method=CalibrationMethod.MinMax,
                    extra_options=_EXTRA_OPTIONS,
                )
        except Exception as error:  # ONNX Runtime's own classes have no base but Exception
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConversionError(f"INT8 quantization failed: {reason}; try --precision fp16 or fp32") from error
        result = onnx.load(target)
    _check_ranges(model, result, clips)
    _raise_weight_scales(result)
    del result.metadata_props[:]
    return result


def float_layers(model: onnx.ModelProto, skip: Mapping[str, str]) -> dict[str, str]:
    """The layers of `skip` that `model` has, with the reason, in the graph's order."""
    return {node.name: skip[node.name] for node in model.graph.node if node.name in skip}


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """Feeds the clips one by one."""

    def __init__(self, name: str, clips: Sequence[npt.NDArray[np.float32]]) -> None:
        self._feeds = iter([{name: clip} for clip in clips])

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return next(self._feeds, None)


def _check_fit(model: onnx.ModelProto, clips: Sequence[npt.NDArray[np.float32]]) -> None:
    if not clips:
        raise CalibrationError(f"expected calibration clips, got none; give a data set of at least {MIN_CLIPS} clips")
    expected = tuple(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)
    for index, clip in enumerate(clips):
        if clip.shape != expected or clip.dtype != np.float32:
            raise CalibrationError(
                f"calibration clip {index}: expected float32 of shape {expected}, got {clip.dtype} of {clip.shape}; "
                "preprocess it by the model's own clip contract"
            )
        if not np.isfinite(clip).all():
            raise CalibrationError(f"calibration clip {index} holds NaN or infinity; expected finite pixels")


def _scales(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto, npt.NDArray[np.float32]]]:
    """Tensor quantized, the initializer of its scale, and its value, for every QuantizeLinear."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            scale = constants[node.input[1]]
            yield node.input[0], scale, numpy_helper.to_array(scale)


def _check_ranges(model: onnx.ModelProto, quantized: onnx.ModelProto, clips: Sequence[npt.NDArray[np.float32]]) -> None:
    weights = {tensor.name for tensor in quantized.graph.initializer}
    doubtful = []
    for name, _, scale in _scales(quantized):
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise CalibrationError(_unusable(name, f"its scale is {scale.min()}"))
        if name not in weights and scale == 1:
            doubtful.append(name)  # the quantizer's answer to a range of 0, and very rarely a true one
    if doubtful:
        largest = largest_values(model, clips)
        for name in doubtful:
            if largest[name] == 0:
                raise CalibrationError(_unusable(name, "it is always 0"))


def _unusable(tensor: str, why: str) -> str:
    return (
        f"the range of '{tensor}' on the calibration clips is not usable: {why}; "
        "check the weights, or calibrate on clips of the model's own data"
    )


def _raise_weight_scales(model: onnx.ModelProto) -> None:
    """Lift the scales of nearly empty weight channels to SMALLEST_SCALE, in place.

    The weights themselves are still in float before their QuantizeLinear, so the pair stays consistent.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    for name, tensor, scale in _scales(model):
        if name in weights and (scale < SMALLEST_SCALE).any():
            lifted = np.maximum(scale, np.float32(SMALLEST_SCALE))
            tensor.CopyFrom(numpy_helper.from_array(lifted, tensor.name))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer advises on standard output and the root logger; edgeact has prepared the graph already."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
