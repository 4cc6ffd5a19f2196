"""Run a graph in ONNX Runtime exactly as it is stated, without ONNX Runtime's own rewrites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeact.errors import ConversionError
from edgeact.export.graph.proto import to_bytes
from edgeact.extras import require

__all__ = ["GraphRunner"]

Array = npt.NDArray[np.float32]


class GraphRunner:
    """A session of ONNX Runtime on the CPU in which every tensor has the value that the graph states."""

    def __init__(self, model: ir.Model, *, threads: int = 0) -> None:
        """Open a session of `threads` threads for one operator, 0 for one per core.

        Raises ConversionError if ONNX Runtime cannot run the graph.
        """
        ort = require("onnxruntime", "export")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # many short runs beside other work
        try:
            self._session = ort.InferenceSession(to_bytes(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes have no base but Exception
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConversionError(f"ONNX Runtime cannot run the graph: {reason}; export the model again") from error

    def run(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> list[Array]:
        """Return the named outputs in order for the named inputs."""
        results: list[Array] = self._session.run(list(outputs), dict(inputs))
        return results
