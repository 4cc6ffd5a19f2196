"""TensorRT for RTX: GeForce and RTX GPUs, with an engine built ahead of time or from the graph on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import cast

from edgeact.bundle.manifest import Kind
from edgeact.errors import DeviceError, MissingExtraError
from edgeact.extras import is_installed, require
from edgeact.runtime.backends import _trt_api as api
from edgeact.runtime.backends._cuda import Cuda, Gpu
from edgeact.runtime.backends._trt import BuildOptions, OpenedEngine, TrtSession, build_engine, deserialize, pick_gpu
from edgeact.runtime.backends.base import BackendSession, OpenRequest, module_version
from edgeact.runtime.backends.tensorrt import engine_key
from edgeact.runtime.caches import CodeCache

__all__ = ["TensorRtRtxBackend"]


class TensorRtRtxBackend:
    """TensorRT for RTX; the caller must have checked that an engine in the request is trusted."""

    name = "tensorrt-rtx"
    kinds: frozenset[Kind] = frozenset({"onnx", "tensorrt-rtx-engine"})
    computes = True

    def why_unavailable(self) -> str | None:
        """Return which package, driver or RTX GPU is missing, else None."""
        if not is_installed("tensorrt_rtx"):
            return str(MissingExtraError("tensorrt_rtx", "tensorrt-rtx"))
        try:
            gpu = pick_gpu(Cuda(), None)
        except DeviceError as error:
            return f"tensorrt-rtx needs an NVIDIA RTX GPU with its driver: {error}"
        known = _library().ComputeCapability.__members__
        if f"SM{gpu.sm.replace('.', '')}" not in known:
            return f"tensorrt-rtx: expected a GPU with one of {', '.join(sorted(known))}, got SM {gpu.sm}"
        return None

    def version(self) -> str:
        """Return the full version, e.g. '1.7.1.116'."""
        return module_version(_library())

    def devices(self) -> tuple[str, ...]:
        """Return the names of all GPUs, e.g. ('CUDA:0',)."""
        return tuple(gpu.name for gpu in Cuda().gpus())

    def facts(self) -> Mapping[str, str]:
        """Return the version and the compute capability of the first GPU."""
        return {"tensorrt-rtx": self.version(), "sm": pick_gpu(Cuda(), None).sm}

    def errors(self) -> tuple[type[Exception], ...]:
        """Return RuntimeError, which the bindings raise."""
        return (RuntimeError,)

    def open(self, request: OpenRequest, /) -> BackendSession:
        """Deserialize the engine, or build it for this GPU; the first run compiles kernels, which are kept."""
        trt = _library()
        cuda = Cuda()
        gpu = pick_gpu(cuda, request.device)
        cuda.call("cudaSetDevice", gpu.index)
        cache = CodeCache(request.cache_folder / "tensorrt-rtx" if request.cache_folder else None)
        key = engine_key(trt, cuda, gpu, request)
        opened = self._engine(trt, request, cache, key)
        return _RtxSession(cuda, gpu, opened, request, _KernelCache(cache, key))

    def _engine(
        self, trt: api.TensorRt, request: OpenRequest, cache: CodeCache, key: Mapping[str, str]
    ) -> OpenedEngine:
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
    """The kernels that TensorRT for RTX compiled for this GPU in earlier runs (the "runtime cache" of TensorRT)."""

    def __init__(self, cache: CodeCache, key: Mapping[str, str]) -> None:
        self._cache = cache
        self._key = {**key, "content": "kernels"}
        self._digest = ""
        self._kernels: api.KernelCache | None = None

    def make_context(self, engine: api.Engine) -> api.ExecutionContext | None:
        """Make an execution context that starts with the kept kernels and collects new ones."""
        config = engine.create_runtime_config()
        self._kernels = kernels = config.create_runtime_cache()
        if (kept := self._cache.read(self._key)) is not None and kernels.deserialize(kept):
            self._digest = hashlib.sha256(kept).hexdigest()
        config.set_runtime_cache(kernels)
        return engine.create_execution_context(config)

    def keep(self) -> None:
        """Keep the kernels if there are new ones."""
        if self._kernels is None:
            return
        code = bytes(self._kernels.serialize())
        if hashlib.sha256(code).hexdigest() != self._digest:
            self._cache.keep(self._key, code)


class _RtxSession(TrtSession):
    """A session that keeps its compiled kernels when it closes."""

    def __init__(self, cuda: Cuda, gpu: Gpu, opened: OpenedEngine, request: OpenRequest, kernels: _KernelCache) -> None:
        self._kernels = kernels
        super().__init__(cuda, gpu, opened, request, kernels.make_context)

    def close(self) -> None:
        try:
            self._kernels.keep()
        finally:
            super().close()


def _library() -> api.TensorRt:
    return cast(api.TensorRt, require("tensorrt_rtx", "tensorrt-rtx"))
