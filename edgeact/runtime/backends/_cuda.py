"""The few CUDA runtime calls that TensorRT needs around it, through cuda-python of the new or the old layout."""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeact.errors import BackendUnavailableError, DeviceError
from edgeact.extras import is_installed

__all__ = ["Cuda", "Gpu"]

_LAYOUTS = ("cuda.bindings.runtime", "cuda.cudart")


@dataclass(frozen=True)
class Gpu:
    """One GPU as the CUDA runtime describes it."""

    index: int
    sm: str
    """Compute capability, e.g. '8.7'."""
    multiprocessors: int

    @property
    def name(self) -> str:
        """As `OpenRequest.device` takes it."""
        return f"CUDA:{self.index}"


class Cuda:
    """CUDA runtime calls that raise DeviceError instead of returning codes."""

    def __init__(self) -> None:
        """Import cuda-python; raises BackendUnavailableError where it is not installed."""
        layout = next((name for name in _LAYOUTS if is_installed(name)), None)
        if layout is None:
            raise BackendUnavailableError(
                "'cuda-python' is not installed; run: pip install cuda-python (of the CUDA version at hand, "
                "e.g. 'cuda-python~=12.6' on JetPack 6)"
            )
        self._runtime: Any = importlib.import_module(layout)

    def call(self, function: str, *arguments: Any) -> Any:
        """Call `function` of the CUDA runtime and return its one value, or None."""
        try:
            code, *values = getattr(self._runtime, function)(*arguments)
        except RuntimeError as error:  # older layouts look for the driver's library only now
            raise DeviceError(f"CUDA: {function} failed: {error}") from error
        if int(code) != 0:
            raise DeviceError(f"CUDA: {function} failed: {self._describe(code)}")
        return values[0] if values else None

    def gpus(self) -> tuple[Gpu, ...]:
        """All GPUs; raises DeviceError where there is no driver."""
        return tuple(self._gpu(index) for index in range(self.call("cudaGetDeviceCount")))

    def versions(self) -> dict[str, str]:
        """CUDA runtime and driver as they number themselves, e.g. 12060."""
        return {
            "cuda": str(self.call("cudaRuntimeGetVersion")),
            "cuda-driver": str(self.call("cudaDriverGetVersion")),
        }

    def pinned(self, shape: tuple[int, ...]) -> tuple[Any, NDArray[np.float32]]:
        """Page-locked host memory and a float32 array over it; free it with `cudaFreeHost`."""
        count = int(np.prod(shape))
        address = self.call("cudaMallocHost", 4 * count)
        buffer = (ctypes.c_float * count).from_address(int(address))
        return address, np.ctypeslib.as_array(buffer).reshape(shape)

    def copy_async(self, target: Any, source: Any, size_bytes: int, stream: Any) -> None:
        """Copy between host and device memory; the direction follows from the addresses."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDefault
        self.call("cudaMemcpyAsync", target, source, size_bytes, kind, stream)

    def _gpu(self, index: int) -> Gpu:
        attributes = self._runtime.cudaDeviceAttr
        major, minor, count = (
            self.call("cudaDeviceGetAttribute", attribute, index)
            for attribute in (
                attributes.cudaDevAttrComputeCapabilityMajor,
                attributes.cudaDevAttrComputeCapabilityMinor,
                attributes.cudaDevAttrMultiProcessorCount,
            )
        )
        return Gpu(index, f"{major}.{minor}", count)

    def _describe(self, code: Any) -> str:
        _, text = self._runtime.cudaGetErrorString(code)
        return text.decode() if isinstance(text, bytes) else str(code)
