"""TensorRT 8.5 to 11: builds the engine on the board that runs it, and keeps the engine there."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

from edgeact.bundle.manifest import Kind
from edgeact.errors import BackendUnavailableError, BundleSchemaError, DeviceError
from edgeact.extras import is_installed, require
from edgeact.runtime.backends import _trt_api as api
from edgeact.runtime.backends._cuda import Cuda, Gpu
from edgeact.runtime.backends._trt import BuildOptions, TrtSession, build_engine, deserialize, pick_gpu
from edgeact.runtime.backends.base import BackendSession, OpenRequest, module_version
from edgeact.runtime.caches import CodeCache

__all__ = ["TensorRtBackend"]

_INSTALL = (
    "'tensorrt' is not installed. On a Jetson use the TensorRT of JetPack (sudo apt install python3-libnvinfer) and a "
    "virtual environment with access to system packages (python3 -m venv --system-site-packages); pip's tensorrt is "
    "built for other machines and breaks JetPack's. On a desktop with an NVIDIA GPU use backend tensorrt-rtx"
)
_L4T_RELEASE = Path("/etc/nv_tegra_release")
_FLAGS: Mapping[str, tuple[str, ...]] = {"fp32": (), "fp16": ("FP16",), "int8": ("FP16", "INT8")}


class _Recipe(NamedTuple):
    """The settings of a TensorRT recipe that the runtime uses."""

    typing: str
    workspace_bytes: int | None
    fp32_layers: tuple[str, ...] = ()


class TensorRtBackend:
    """TensorRT with an engine that is built from the bundle's graph on this GPU."""

    name = "tensorrt"
    kinds: frozenset[Kind] = frozenset({"onnx", "tensorrt-recipe"})
    computes = True

    def why_unavailable(self) -> str | None:
        """Return which module, driver or GPU is missing, else None."""
        if not is_installed("tensorrt"):
            return _INSTALL
        try:
            pick_gpu(Cuda(), None)
        except DeviceError as error:
            return f"tensorrt needs an NVIDIA GPU with its driver: {error}"
        return None

    def version(self) -> str:
        """Return the full version, e.g. '10.3.0.30'."""
        return module_version(_library())

    def devices(self) -> tuple[str, ...]:
        """Return the names of all GPUs, e.g. ('CUDA:0',)."""
        return tuple(gpu.name for gpu in Cuda().gpus())

    def facts(self) -> Mapping[str, str]:
        """Return the version and the compute capability of the first GPU."""
        return {"tensorrt": self.version(), "sm": pick_gpu(Cuda(), None).sm}

    def errors(self) -> tuple[type[Exception], ...]:
        """Return RuntimeError, which the bindings raise."""
        return (RuntimeError,)

    def open(self, request: OpenRequest, /) -> BackendSession:
        """Open the engine kept on this machine, else build it: minutes on a small board, with progress in the log."""
        trt = _library()
        cuda = Cuda()
        gpu = pick_gpu(cuda, request.device)
        cuda.call("cudaSetDevice", gpu.index)
        options = build_options(trt, request)
        cache = CodeCache(request.cache_folder / "tensorrt" if request.cache_folder else None)
        key = engine_key(trt, cuda, gpu, request) | {"options": repr(options)}
        opened = cache.open_or_build(
            key, lambda: build_engine(trt, request.graph, options), lambda code: deserialize(trt, code)
        )
        return TrtSession(cuda, gpu, opened, request, lambda engine: engine.create_execution_context())


def build_options(trt: api.TensorRt, request: OpenRequest) -> BuildOptions:
    """Return the build options of a request: typing and workspace from the recipe, flags from the precision.

    Without a recipe the typing is weak if this TensorRT has precision flags. Raises BackendUnavailableError for a
    recipe that this TensorRT cannot follow.
    """
    has_flags = "FP16" in trt.BuilderFlag.__members__
    has_typing = not has_flags or "STRONGLY_TYPED" in trt.NetworkDefinitionCreationFlag.__members__
    recipe = _Recipe("weak" if has_flags else "strong", None)
    if request.recipe is not None:
        recipe = read_recipe(request.recipe)
    strong = recipe.typing == "strong"
    fp32_layers = recipe.fp32_layers if request.precision != "fp32" else ()
    obey = ("OBEY_PRECISION_CONSTRAINTS",) if fp32_layers else ()
    if (strong and not has_typing) or (not strong and not has_flags and request.precision != "fp32"):
        raise BackendUnavailableError(
            f"the recipe requires a TensorRT with {recipe.typing} typing, which {module_version(trt)} does not have; "
            "choose the bundle's other TensorRT artifact or export for this release"
        )
    return BuildOptions(
        strongly_typed=strong,
        builder_flags=() if strong else (*_FLAGS[request.precision], *obey),
        fp32_layers=fp32_layers,
        allow_tf32=request.precision != "fp32",
        workspace_bytes=recipe.workspace_bytes,
    )


def read_recipe(recipe: bytes) -> _Recipe:
    """Read the settings of a recipe (JSON); raises BundleSchemaError for anything else."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        document = json.loads(recipe)
        typing, workspace_mib = document.get("typing"), document.get("workspace_mib")
        layers = document.get("fp32_layers", [])
        is_names = isinstance(layers, list) and all(isinstance(layer, str) for layer in layers)
        if (typing == "weak" and is_names) or (typing == "strong" and not layers):
            return _Recipe(typing, None if workspace_mib is None else int(workspace_mib) << 20, tuple(layers))
    raise BundleSchemaError(
        "TensorRT recipe: expected a JSON object whose 'typing' is 'weak' or 'strong', and 'fp32_layers', a list of "
        "layer names, only with weak typing; export the bundle again"
    )


def engine_key(trt: api.TensorRt, cuda: Cuda, gpu: Gpu, request: OpenRequest) -> dict[str, str]:
    """Return everything that an engine depends on; with any change the engine is built again."""
    return {
        "library": trt.__name__,
        "version": module_version(trt),
        "graph": hashlib.sha256(request.graph).hexdigest(),
        "precision": request.precision,
        "shapes": f"{request.input_shape} -> {request.output_size}",
        "sm": gpu.sm,
        "multiprocessors": str(gpu.multiprocessors),
        "l4t": _L4T_RELEASE.read_text().splitlines()[0] if _L4T_RELEASE.is_file() else "",
        **cuda.versions(),
    }


def _library() -> api.TensorRt:
    if not is_installed("tensorrt"):
        raise BackendUnavailableError(_INSTALL)
    return cast(api.TensorRt, require("tensorrt", "tensorrt"))
