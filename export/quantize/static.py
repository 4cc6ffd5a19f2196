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

__all__ = ["METHOD", "MIN_CLIPS", "check_clips", "float_layers", "quantize"]

METHOD = "static, symmetric int8, min-max ranges; weights per channel, activations per tensor"
MIN_CLIPS = 32
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

    Raises CalibrationError where a range is not finite, ConversionError where the quantizer refuses the graph.
    """
    _check_finite(clips)
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
        except (RuntimeError, ValueError) as error:
            raise ConversionError(f"INT8 quantization failed: {str(error).splitlines()[0]}") from error
        result = onnx.load(target)
    _check_scales(result)
    del result.metadata_props[:]
    return result


def float_layers(model: onnx.ModelProto, skip: Mapping[str, str]) -> dict[str, str]:
    """The layers of `model` that a quantizer would take but that stay in float, with the reason."""
    return {node.name: skip[node.name] for node in model.graph.node if node.name in skip}


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """Feeds the clips one by one."""

    def __init__(self, name: str, clips: Sequence[npt.NDArray[np.float32]]) -> None:
        self._feeds = iter([{name: clip} for clip in clips])

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return next(self._feeds, None)


def _check_finite(clips: Sequence[npt.NDArray[np.float32]]) -> None:
    for index, clip in enumerate(clips):
        if not np.isfinite(clip).all():
            raise CalibrationError(f"calibration clip {index} holds NaN or infinity; expected finite pixels")


def _check_scales(model: onnx.ModelProto) -> None:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[1] not in constants:
            continue
        scale = numpy_helper.to_array(constants[node.input[1]])
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise CalibrationError(
                f"the range of '{node.input[0]}' is not usable (scale {scale.min()}); on the calibration clips its "
                "activations are NaN, infinite or always zero"
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer advises on standard output and the root logger; edgeact has prepared the graph already."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
