"""The native compiler: from an INT8 ONNX graph to a program of the native engine."""

from __future__ import annotations

import onnx_ir as ir

from edgeact.export.cpu.native.codegen import generate
from edgeact.export.cpu.native.lower import lower
from edgeact.runtime.native.program import Program

__all__ = ["compile_model"]


def compile_model(model: ir.Model) -> tuple[Program, bytes]:
    """Return the native program of an INT8 graph and the file of its tensors.

    Raises NotLoweredError, which names the layer, if the engine cannot run the graph.
    """
    return generate(lower(model))
