"""Backends, one file per inference library; the table below is the whole registry."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from edgeact.errors import UnknownNameError
from edgeact.runtime.backends.base import Backend, BackendSession, OpenRequest
from edgeact.runtime.backends.fake import FakeBackend

__all__ = ["BACKENDS", "Backend", "BackendSession", "FakeBackend", "OpenRequest", "get_backend"]

BACKENDS: Mapping[str, str] = MappingProxyType(
    {
        "native": "edgeact.runtime.backends.native:NativeBackend",
        "onnxruntime": "edgeact.runtime.backends.onnxruntime:OnnxRuntimeBackend",
        "openvino": "edgeact.runtime.backends.openvino:OpenVinoBackend",
        "tensorrt": "edgeact.runtime.backends.tensorrt:TensorRtBackend",
        "tensorrt-rtx": "edgeact.runtime.backends.tensorrt_rtx:TensorRtRtxBackend",
    }
)
"""Name -> 'module:class'; the class takes no arguments."""


def get_backend(name: str) -> Backend:
    """Return the backend `name`, available or not; raises UnknownNameError."""
    if name not in BACKENDS:
        raise UnknownNameError("backend", name, BACKENDS)
    module, attribute = BACKENDS[name].split(":")
    backend: Backend = getattr(importlib.import_module(module), attribute)()
    return backend
