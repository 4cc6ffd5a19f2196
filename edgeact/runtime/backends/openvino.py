"""OpenVINO: Intel CPUs, GPUs and NPUs, from ONNX or from its own IR."""

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
    """OpenVINO through one reused infer request and shared input memory."""

    name = "openvino"
    kinds: frozenset[Kind] = frozenset({"onnx", "openvino-ir"})

    def why_unavailable(self) -> str | None:
        """The missing package, if it is missing."""
        return None if is_installed("openvino") else str(MissingExtraError("openvino", "openvino"))

    def version(self) -> str:
        """Of the installed package, e.g. '2026.4.1'."""
        return module_version(_library()).split("-")[0]

    def devices(self) -> tuple[str, ...]:
        """What OpenVINO sees here; the CPU first, because bundles are made and checked on it."""
        seen: list[str] = _library().Core().available_devices
        return tuple(sorted(seen, key=lambda name: (not name.startswith("CPU"), name)))

    def facts(self) -> Mapping[str, str]:
        """Its version."""
        return {"openvino": self.version()}

    def errors(self) -> tuple[type[Exception], ...]:
        """OpenVINO's Python API raises plain RuntimeError."""
        return (RuntimeError,)

    def open(self, request: OpenRequest, /) -> BackendSession:
        """Compile for one device, tuned for latency; raises BackendUnavailableError, ModelError."""
        library = _library()
        core = library.Core()
        device = request.device or "CPU"
        family = device.split(".")[0]
        if family in ("CPU", "GPU", "NPU") and not any(name.split(".")[0] == family for name in core.available_devices):
            raise BackendUnavailableError(
                f"openvino: device '{device}' is not here; found: {', '.join(core.available_devices)}; "
                "install the device's driver or choose one of these"
            )
        model = core.read_model(request.graph, request.weights or b"")
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ModelError(
                f"the graph must have one input and one output, got {len(model.inputs)} and {len(model.outputs)}"
            )
        return _Session(library, _compiled(core, model, device, _properties(request, family)))


def _compiled(core: Any, model: Any, device: str, properties: dict[str, str | int]) -> Any:
    """The compiled model, without OpenVINO's code generator where that fails.

    With one thread, 2026.4's refuses the self-attention of 5-D features that it compiles with two.
    """
    try:
        return core.compile_model(model, device, properties)
    except RuntimeError as error:
        if "/snippets/" not in str(error):
            raise
        return core.compile_model(model, device, {**properties, "SNIPPETS_MODE": "DISABLE"})


def _properties(request: OpenRequest, family: str) -> dict[str, str | int]:
    properties: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY"}
    if request.threads is not None and family == "CPU":
        properties["INFERENCE_NUM_THREADS"] = request.threads
    if request.precision == "fp32":  # or it computes in BF16 where the processor has it
        properties["INFERENCE_PRECISION_HINT"] = "f32"
    if request.cache_folder is not None and family in ("GPU", "NPU"):
        # OpenVINO keys its cache by model, device, driver and options itself; the CPU compiles faster than it reads.
        properties["CACHE_DIR"] = str(request.cache_folder / "openvino")
    return properties


class _Session:
    notes: tuple[str, ...] = ()

    def __init__(self, library: Any, compiled: Any) -> None:
        self._tensor = library.Tensor
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._bound: Array | None = None
        self.device: str = "+".join(compiled.get_property("EXECUTION_DEVICES"))

    def run(self, clip: Array, /) -> Array:
        if clip is not self._bound:  # a caller that reuses its buffer binds once
            self._request.set_input_tensor(0, self._tensor(clip, shared_memory=True))
            self._bound = clip
        self._request.infer()
        return np.array(self._request.get_output_tensor(0).data, dtype=np.float32)

    def close(self) -> None:
        self._bound = None
        del self._request, self._compiled


def _library() -> Any:
    return require("openvino", "openvino")
