"""OpenVINO: Intel CPUs, GPUs and NPUs, from ONNX or OpenVINO IR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeact.bundle.manifest import Kind
from edgeact.errors import BackendUnavailableError, MissingExtraError, ModelError
from edgeact.extras import is_installed, require
from edgeact.runtime.backends.base import Array, BackendSession, OpenRequest, module_version

__all__ = ["OpenVinoBackend"]


class OpenVinoBackend:
    """OpenVINO with one reused infer request and shared input memory."""

    name = "openvino"
    kinds: frozenset[Kind] = frozenset({"onnx", "openvino-ir"})
    computes = True

    def why_unavailable(self) -> str | None:
        """Return that the package is missing, else None."""
        return None if is_installed("openvino") else str(MissingExtraError("openvino", "openvino"))

    def version(self) -> str:
        """Return the version of the installed package, e.g. '2026.4.1'."""
        return module_version(_library()).split("-")[0]

    def devices(self) -> tuple[str, ...]:
        """Return OpenVINO's devices; the CPU first, because bundles are made and checked on it."""
        devices: list[str] = _library().Core().available_devices
        return tuple(sorted(devices, key=lambda name: (not name.startswith("CPU"), name)))

    def facts(self) -> Mapping[str, str]:
        """Return the version."""
        return {"openvino": self.version()}

    def errors(self) -> tuple[type[Exception], ...]:
        """Return RuntimeError, which OpenVINO's Python API raises."""
        return (RuntimeError,)

    def open(self, request: OpenRequest, /) -> BackendSession:
        """Compile for one device, tuned for latency; raises BackendUnavailableError, ModelError."""
        library = _library()
        core = library.Core()
        device = request.device or "CPU"
        family = device.split(".")[0]
        if family in ("CPU", "GPU", "NPU") and not any(name.split(".")[0] == family for name in core.available_devices):
            raise BackendUnavailableError(
                f"openvino: device '{device}' is not available; this machine has {', '.join(core.available_devices)}; "
                "install the device's driver or choose one of these"
            )
        model = core.read_model(request.graph, request.weights or b"")
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ModelError(
                f"openvino: expected a graph with 1 input and 1 output, got {len(model.inputs)} and "
                f"{len(model.outputs)}; export the model again"
            )
        return _OpenVinoSession(library, _compile(core, model, device, _properties(request, family)))


def _compile(core: Any, model: Any, device: str, properties: dict[str, str | int | bool]) -> Any:
    """Compile the model, without OpenVINO's code generator (snippets) if that fails.

    With one thread, the generator of 2026.4 refuses self-attention on 5-D activations that it compiles with two.
    """
    try:
        return core.compile_model(model, device, properties)
    except RuntimeError as error:
        if "/snippets/" not in str(error):
            raise
        return core.compile_model(model, device, {**properties, "SNIPPETS_MODE": "DISABLE"})


def _properties(request: OpenRequest, family: str) -> dict[str, str | int | bool]:
    properties: dict[str, str | int | bool] = {"PERFORMANCE_HINT": "LATENCY"}
    if family == "CPU":
        # OpenVINO pins the threads of every model of a process to the same first cores: two models of one thread each
        # had half the rate. Without pinning, a single model has the same latency.
        properties["ENABLE_CPU_PINNING"] = False
    if request.threads is not None and family == "CPU":
        properties["INFERENCE_NUM_THREADS"] = request.threads
    if request.precision == "fp32":  # else OpenVINO computes in BF16 if the processor supports it
        properties["INFERENCE_PRECISION_HINT"] = "f32"
    if request.cache_folder is not None and family in ("GPU", "NPU"):
        # OpenVINO keys its cache by model, device, driver and options; for the CPU, compiling is faster than reading.
        properties["CACHE_DIR"] = str(request.cache_folder / "openvino")
    return properties


class _OpenVinoSession:
    notes: tuple[str, ...] = ()

    def __init__(self, library: Any, compiled: Any) -> None:
        self._tensor = library.Tensor
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._bound: Array | None = None
        self.device: str = "+".join(compiled.get_property("EXECUTION_DEVICES"))

    def run(self, clip: Array, /) -> Array:
        if clip is not self._bound:  # a caller that reuses its buffer binds only once
            self._request.set_input_tensor(0, self._tensor(clip, shared_memory=True))
            self._bound = clip
        self._request.infer()
        return np.array(self._request.get_output_tensor(0).data, dtype=np.float32)

    def close(self) -> None:
        self._bound = None
        del self._request, self._compiled


def _library() -> Any:
    return require("openvino", "openvino")
