"""TensorRT for RTX: GeForce and RTX cards, from an engine built ahead of time or from the graph on the spot."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from edgeact.bundle.manifest import Kind
from edgeact.errors import DeviceError, MissingExtraError
from edgeact.extras import is_installed, require
from edgeact.runtime.backends._cuda import Cuda, Gpu
from edgeact.runtime.backends._trt import BuildOptions, OpenedEngine, TrtSession, build_engine, deserialize, pick_gpu
from edgeact.runtime.backends.base import BackendSession, OpenRequest, module_version
from edgeact.runtime.backends.tensorrt import engine_key
from edgeact.runtime.caches import CodeCache

__all__ = ["TensorRtRtxBackend"]


class TensorRtRtxBackend:
    """TensorRT for RTX; the caller has made sure that an engine in the request is trusted."""

    name = "tensorrt-rtx"
    kinds: frozenset[Kind] = frozenset({"onnx", "tensorrt-rtx-engine"})

    def why_unavailable(self) -> str | None:
        """The missing package, driver or GPU, or a GPU that is not an RTX one."""
        if not is_installed("tensorrt_rtx"):
            return str(MissingExtraError("tensorrt_rtx", "tensorrt-rtx"))
        try:
            gpu = pick_gpu(Cuda(), None)
        except DeviceError as error:
            return f"tensorrt-rtx needs an NVIDIA RTX GPU with its driver: {error}"
        known = _library().ComputeCapability.__members__
        if f"SM{gpu.sm.replace('.', '')}" not in known:
            return f"tensorrt-rtx does not run on this GPU (SM {gpu.sm}), only on {', '.join(sorted(known))}"
        return None

    def version(self) -> str:
        """Full version, e.g. '1.7.1.116'."""
        return module_version(_library())

    def devices(self) -> tuple[str, ...]:
        """'CUDA:0' ..."""
        return tuple(gpu.name for gpu in Cuda().gpus())

    def facts(self) -> Mapping[str, str]:
        """Its version, and the compute capability of the first GPU."""
        return {"tensorrt-rtx": self.version(), "sm": pick_gpu(Cuda(), None).sm}

    def errors(self) -> tuple[type[Exception], ...]:
        """The bindings raise RuntimeError."""
        return (RuntimeError,)

    def open(self, request: OpenRequest, /) -> BackendSession:
        """Deserialize the engine, or build one for the GPU at hand; kernels are compiled at the first run and kept."""
        trt = _library()
        cuda = Cuda()
        gpu = pick_gpu(cuda, request.device)
        cuda.call("cudaSetDevice", gpu.index)
        cache = CodeCache(request.cache_folder / "tensorrt-rtx" if request.cache_folder else None)
        key = engine_key(trt, cuda, gpu, request)
        opened = self._engine(trt, request, cache, key)
        return _RtxSession(cuda, gpu, opened, request, _KernelCache(cache, key))

    def _engine(self, trt: Any, request: OpenRequest, cache: CodeCache, key: Mapping[str, str]) -> OpenedEngine:
        if request.kind == "tensorrt-rtx-engine":
            return deserialize(trt, request.graph)
        allow_tf32 = request.precision != "fp32"
        options = BuildOptions(strongly_typed=True, allow_tf32=allow_tf32, compute_capability="CURRENT")
        return cache.open_or_build(
            {**key, "options": repr(options)},
            lambda: build_engine(trt, request.graph, options),
            lambda code: deserialize(trt, code),
        )


class _KernelCache:
    """The kernels that TensorRT for RTX compiled for this GPU in earlier runs (its "runtime cache")."""

    def __init__(self, cache: CodeCache, key: Mapping[str, str]) -> None:
        self._cache = cache
        self._key = {**key, "content": "kernels"}
        self._digest = ""
        self._kernels: Any = None

    def make_context(self, engine: Any) -> Any:
        """An execution context that starts with what is known and collects what is new."""
        config = engine.create_runtime_config()
        self._kernels = config.create_runtime_cache()
        if (kept := self._cache.read(self._key)) is not None and self._kernels.deserialize(kept):
            self._digest = hashlib.sha256(kept).hexdigest()
        config.set_runtime_cache(self._kernels)
        return engine.create_execution_context(config)

    def keep(self) -> None:
        """Write what was learned, if anything was."""
        if self._kernels is None:
            return
        code = bytes(self._kernels.serialize())
        if hashlib.sha256(code).hexdigest() != self._digest:
            self._cache.keep(self._key, code)


class _RtxSession(TrtSession):
    """A session that keeps its compiled kernels when it is closed."""

    def __init__(self, cuda: Cuda, gpu: Gpu, opened: OpenedEngine, request: OpenRequest, kernels: _KernelCache) -> None:
        self._kernels = kernels
        super().__init__(cuda, gpu, opened, request, kernels.make_context)

    def close(self) -> None:
        try:
            self._kernels.keep()
        finally:
            super().close()


def _library() -> Any:
    return require("tensorrt_rtx", "tensorrt-rtx")
