"""ONNX to OpenVINO IR."""

from __future__ import annotations

import tempfile
from pathlib import Path

import openvino

from edgeact.errors import ConversionError

__all__ = ["to_openvino"]


def to_openvino(graph: bytes, *, compress_to_fp16: bool = False) -> tuple[bytes, bytes]:
    """The IR of a serialized ONNX model as `(xml, weights)`.

    `compress_to_fp16` stores the weights in half the size; a CPU computes in its own precision either way.
    Raises ConversionError with OpenVINO's reason.
    """
    try:
        model = openvino.Core().read_model(graph)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.xml"
            openvino.save_model(model, path, compress_to_fp16=compress_to_fp16)
            return path.read_bytes(), path.with_suffix(".bin").read_bytes()
    except RuntimeError as error:
        raise ConversionError(f"OpenVINO cannot convert the graph: {str(error).strip().splitlines()[-1]}") from error
