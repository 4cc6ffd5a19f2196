"""ONNX to OpenVINO IR."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import openvino

from edgeact.errors import ConversionError

__all__ = ["to_openvino"]

_NODE = re.compile(r"ONNX node '<Node\((\w+)\): ([^>]*)>': (.*)")


def to_openvino(graph: bytes, *, compress_to_fp16: bool = False) -> tuple[bytes, bytes]:
    """Return the IR of a serialized ONNX model as `(xml, weights)`; the same graph gives the same bytes.

    `compress_to_fp16` stores the weights in half the size; a CPU computes in its own precision either way.
    Raises ConversionError with the layers that OpenVINO refuses and its reason.
    """
    try:
        model = openvino.Core().read_model(graph)
        _name_by_order(model)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.xml"
            openvino.save_model(model, path, compress_to_fp16=compress_to_fp16)
            return path.read_bytes(), path.with_suffix(".bin").read_bytes()
    except RuntimeError as error:
        raise ConversionError(f"OpenVINO cannot convert the graph: {_reason(str(error))}") from error


def _name_by_order(model: openvino.Model) -> None:
    """Rename what OpenVINO named itself, 'Constant_67': it counts on through the whole process."""
    for index, node in enumerate(model.get_ordered_ops()):
        if re.fullmatch(rf"{re.escape(node.get_type_name())}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{index}")


def _reason(text: str) -> str:
    layers = [f"layer '{name}' ({op_type}): {why}" for op_type, name, why in _NODE.findall(text)]
    return "; ".join(layers) or text.strip().splitlines()[-1]
