"""ONNX Runtime: its CPU, CUDA and TensorRT execution providers."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeact.bundle.manifest import Kind
from edgeact.devices import instruction_sets
from edgeact.errors import BackendUnavailableError, MissingExtraError, StorageError
from edgeact.extras import is_installed, require
from edgeact.runtime.backends.base import Array, BackendSession, OpenRequest, module_version
from edgeact.runtime.caches import private_folder

__all__ = ["OnnxRuntimeBackend"]

_PROVIDERS = {
    "CUDA": "CUDAExecutionProvider",
    "TENSORRT": "TensorrtExecutionProvider",
    "CPU": "CPUExecutionProvider",
}
_VNNI = frozenset({"avx_vnni", "avx512_vnni", "amx_int8"})
_ERRORS_AND_UP = 3

Provider = tuple[str, dict[str, str]]


class OnnxRuntimeBackend:
    """ONNX Runtime; `device` names the execution provider."""

    name = "onnxruntime"
    kinds: frozenset[Kind] = frozenset({"onnx"})
    computes = True

    def why_unavailable(self) -> str | None:
        """Return that the package is missing, else None."""
        return None if is_installed("onnxruntime") else str(MissingExtraError("onnxruntime", "onnxruntime"))

    def version(self) -> str:
        """Return the version of the installed package."""
        return module_version(_library())

    def devices(self) -> tuple[str, ...]:
        """Return the providers of this build; whether a GPU really works shows only when a model is opened."""
        built_in = _library().get_available_providers()
        return tuple(device for device, provider in _PROVIDERS.items() if provider in built_in)

    def facts(self) -> Mapping[str, str]:
        """Return the version."""
        return {"onnxruntime": self.version()}

    def errors(self) -> tuple[type[Exception], ...]:
        """Return all exceptions of the native module, and RuntimeError and ValueError, which providers raise."""
        require("onnxruntime", "onnxruntime")
        state = require("onnxruntime.capi.onnxruntime_pybind11_state", "onnxruntime")
        native = tuple(
            value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)
        )
        return (*native, RuntimeError, ValueError)

    def open(self, request: OpenRequest, /) -> BackendSession:
        """Open on one provider; if it does not start, raise if it was requested by name, else add a note."""
        library = _library()
        device = request.device or self._best_device(request)
        if device not in self.devices():
            raise BackendUnavailableError(
                f"onnxruntime: this build does not have device '{device}', only {', '.join(self.devices())}; "
                "on an x86-64 machine with an NVIDIA GPU install onnxruntime-gpu instead of onnxruntime "
                "(on a Jetson only wheels built for its JetPack work)"
            )
        session = library.InferenceSession(request.graph, _options(library, request), providers=_chain(device, request))
        started = session.get_providers()
        notes: tuple[str, ...] = ()
        if _PROVIDERS[device] not in started:
            note = f"onnxruntime did not start {_PROVIDERS[device]} and runs on {started[0]}"
            if request.device is not None:
                raise BackendUnavailableError(f"{note}; check the driver, CUDA and cuDNN, or choose device CPU")
            notes = (note,)
        return _OnnxRuntimeSession(session, request, notes)

    def _best_device(self, request: OpenRequest) -> str:
        # The CUDA provider has no INT8 convolution: it would compute Q/DQ graphs in float, with extra work.
        return "CPU" if request.precision == "int8" else self.devices()[0]


def _options(library: Any, request: OpenRequest) -> Any:
    options = library.SessionOptions()
    options.log_severity_level = _ERRORS_AND_UP
    if request.threads is not None:
        options.intra_op_num_threads = request.threads
    if request.precision == "int8" and not _VNNI.intersection(instruction_sets()):
        # Without VNNI the kernels of x86 add products in saturating int16; this option makes them exact, and slower.
        options.add_session_config_entry("session.x64quantprecision", "1")
    if request.as_written:
        # With FP16 scales, the optimizer that quantizes biases (1.31) makes the logits of a Gemm wrong.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def _chain(device: str, request: OpenRequest) -> list[Provider]:
    """Return the provider with its options, then the fallbacks for operators that it does not support."""
    chain: list[Provider] = [(_PROVIDERS["CPU"], {})]
    if device in ("CUDA", "TENSORRT"):
        chain.insert(0, (_PROVIDERS["CUDA"], {"use_tf32": "0"} if request.precision == "fp32" else {}))
    if device == "TENSORRT":
        chain.insert(0, (_PROVIDERS["TENSORRT"], _tensorrt_options(request)))
    return chain


def _tensorrt_options(request: OpenRequest) -> dict[str, str]:
    options = {"trt_timing_cache_enable": "True"}
    if request.precision in ("fp16", "int8"):
        options["trt_fp16_enable"] = "True"
    if request.precision == "int8":
        options["trt_int8_enable"] = "True"
    if request.cache_folder is not None:
        with contextlib.suppress(StorageError):  # without a writable cache, engines are built at each start
            # The provider's key ignores the weights: two models of the same structure would share an engine.
            digest = hashlib.sha256(request.graph).hexdigest()
            folder = private_folder(request.cache_folder / "onnxruntime-tensorrt" / digest / request.precision)
            options |= {
                "trt_engine_cache_enable": "True",
                "trt_engine_cache_path": str(folder),
                "trt_timing_cache_path": str(folder),
            }
    return options


class _OnnxRuntimeSession:
    def __init__(self, session: Any, request: OpenRequest, notes: tuple[str, ...]) -> None:
        self._session = session
        self._input_name = request.input_name
        self._outputs = [request.output_name]
        self.notes = notes
        started = session.get_providers()[0]
        self.device = next((name for name, provider in _PROVIDERS.items() if provider == started), started)

    def run(self, clip: Array, /) -> Array:
        return np.asarray(self._session.run(self._outputs, {self._input_name: clip})[0])

    def close(self) -> None:
        del self._session


def _library() -> Any:
    return require("onnxruntime", "onnxruntime")
