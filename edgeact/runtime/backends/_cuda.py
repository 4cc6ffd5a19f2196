"""The CUDA runtime calls that TensorRT needs, through cuda-python of the new or the old module layout."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import SupportsInt

import numpy as np
from numpy.typing import NDArray

from edgeact.errors import BackendUnavailableError, DeviceError
from edgeact.extras import is_installed

__all__ = ["Cuda", "Gpu"]

_MODULES = ("cuda.bindings.runtime", "cuda.cudart")


@dataclass(frozen=True)
class Gpu:
    """One GPU as the CUDA runtime describes it."""

    index: int
    sm: str
    """Compute capability, e.g. '8.7'."""
    multiprocessors: int

    @property
    def name(self) -> str:
        """Name that `OpenRequest.device` takes."""
        return f"CUDA:{self.index}"


class Cuda:
    """CUDA runtime calls that raise DeviceError instead of returning codes. Addresses and streams support `int`."""

    def __init__(self) -> None:
        """Import cuda-python; raises BackendUnavailableError if it is not installed."""
        module = next((name for name in _MODULES if is_installed(name)), None)
        if module is None:
            raise BackendUnavailableError(
                "'cuda-python' is not installed; run: pip install cuda-python (for the CUDA version of this machine, "
                "e.g. 'cuda-python~=12.6' on JetPack 6)"
            )
        self._runtime: ModuleType = importlib.import_module(module)

    def call(self, function: str, *arguments: object) -> None:
        """Call a function of the CUDA runtime that returns no value."""
        self._values(function, arguments)

    def query(self, function: str, *arguments: object) -> SupportsInt:
        """Call a function of the CUDA runtime and return its value."""
        (value,) = self._values(function, arguments)
        return value

    def gpus(self) -> tuple[Gpu, ...]:
        """Return all GPUs; raises DeviceError without a driver."""
        return tuple(self._gpu(index) for index in range(int(self.query("cudaGetDeviceCount"))))

    def versions(self) -> dict[str, str]:
        """Return the versions of CUDA runtime and driver as numbers, e.g. '12060'."""
        return {
            "cuda": str(self.query("cudaRuntimeGetVersion")),
            "cuda-driver": str(self.query("cudaDriverGetVersion")),
        }

    def pinned(self, shape: tuple[int, ...]) -> tuple[SupportsInt, NDArray[np.float32]]:
        """Allocate page-locked host memory; return its address, to free with `cudaFreeHost`, and a float32 view."""
        count = int(np.prod(shape))
        address = self.query("cudaMallocHost", 4 * count)
        buffer = (ctypes.c_float * count).from_address(int(address))
        return address, np.ctypeslib.as_array(buffer).reshape(shape)

    def copy_async(self, target: SupportsInt, source: SupportsInt, size_bytes: int, stream: SupportsInt) -> None:
        """Copy between host and device memory; the direction follows from the addresses."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDefault
        self.call("cudaMemcpyAsync", target, source, size_bytes, kind, stream)

    def _values(self, function: str, arguments: Sequence[object]) -> list[SupportsInt]:
        try:
            code, *values = getattr(self._runtime, function)(*arguments)
        except RuntimeError as error:  # older cuda-python looks up the driver's library only now
            raise DeviceError(f"CUDA: {function} failed: {error}") from error
        if int(code) != 0:
            raise DeviceError(f"CUDA: {function} failed: {self._describe(code)}")
        results: list[SupportsInt] = values
        return results

    def _gpu(self, index: int) -> Gpu:
        attributes = self._runtime.cudaDeviceAttr
        major, minor, count = (
            int(self.query("cudaDeviceGetAttribute", attribute, index))
            for attribute in (
                attributes.cudaDevAttrComputeCapabilityMajor,
                attributes.cudaDevAttrComputeCapabilityMinor,
                attributes.cudaDevAttrMultiProcessorCount,
            )
        )
        return Gpu(index, f"{major}.{minor}", count)

    def _describe(self, code: object) -> str:
        _, text = self._runtime.cudaGetErrorString(code)
        return text.decode() if isinstance(text, bytes) else str(code)
