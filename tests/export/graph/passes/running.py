"""Running a graph as it stands, for comparing it with its rewritten form."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from edgeact.export.graph.proto import to_bytes

__all__ = ["run"]


def run(model: ir.Model | onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the only output for input 'x', computed without ONNX Runtime's own rewrites."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    data = to_bytes(model) if isinstance(model, ir.Model) else model.SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"x": x})[0]
    return result
