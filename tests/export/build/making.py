"""Candidates made by hand."""

from __future__ import annotations

from edgeact.bundle import Artifact
from edgeact.export.candidates.candidate import Candidate
from edgeact.precision import Precision

__all__ = ["onnx_file"]


def onnx_file(name: str, precision: Precision, data: bytes, backend: str = "onnxruntime") -> Candidate:
    """Return the candidate of a serialized ONNX graph."""
    path = f"onnx/{name}.onnx"
    artifact = Artifact(name=name, kind="onnx", precision=precision, backends=(backend,), members=(path,))
    return Candidate(artifact, {path: ("graph", data)}, backend, name, precision)
