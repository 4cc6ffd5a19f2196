"""The interface of a backend, and of its sessions: `run(array) -> array` and `close()`.

Backends do not check state or arrays, measure time, or map errors: `edgeact.runtime.session` does that for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeact.bundle.manifest import Kind
from edgeact.precision import Precision

__all__ = ["Array", "Backend", "BackendSession", "OpenRequest"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class OpenRequest:
    """Everything that a backend needs to open one artifact; the bytes are verified against the manifest."""

    graph: bytes = field(repr=False)
    """ONNX model, OpenVINO IR (XML), native program (JSON), or a trusted engine."""
    kind: Kind
    precision: Precision
    """'fp32' is computed in FP32; with the others the library may compute float layers in BF16 or TF32."""
    input_shape: tuple[int, ...]
    """`(1, 3, T, H, W)`."""
    output_size: int
    """Number of classes."""
    weights: bytes | None = field(default=None, repr=False)
    """Weights of the IR or of the native program; None for other kinds."""
    recipe: bytes | None = field(default=None, repr=False)
    """TensorRT build recipe (JSON); None if the artifact has none."""
    input_name: str = "clip"
    output_name: str = "logits"
    device: str | None = None
    """One of the backend's `devices()`; None: the best one."""
    threads: int | None = None
    """CPU threads; None: the library's default."""
    cache_folder: Path | None = None
    """Folder for engines built on this machine; None: nothing is kept."""
    as_written: bool = False
    """Disable the library's rewriting of quantized layers; to check a graph made for another library."""


class BackendSession(Protocol):
    """One opened model. Not thread-safe: `edgeact.runtime.Session`, the only caller, serializes the calls."""

    device: str
    """The device that really runs the model, e.g. CPU if a GPU was requested but did not start."""
    notes: tuple[str, ...]
    """Messages for the user, e.g. that the library fell back to another device."""

    def run(self, clip: Array, /) -> Array:
        """Return logits `(1, classes)`, owned by the caller, of one C-contiguous float32 clip `(1, 3, T, H, W)`."""
        ...

    def close(self) -> None:
        """Release everything; called exactly once."""
        ...


class Backend(Protocol):
    """One inference library. Construction is cheap: the methods that need the library import it."""

    @property
    def name(self) -> str:
        """Key in the table `BACKENDS`."""
        ...

    @property
    def kinds(self) -> frozenset[Kind]:
        """Kinds of artifacts that the backend opens."""
        ...

    @property
    def computes(self) -> bool:
        """Whether logits are computed from the artifact, so that the self-check applies; false for a stand-in."""
        ...

    def why_unavailable(self) -> str | None:
        """Return why the backend cannot be used on this machine and what to do about that; None if it can be used."""
        ...

    def version(self) -> str:
        """Return the version of the library; requires that the backend is available."""
        ...

    def devices(self) -> tuple[str, ...]:
        """Return the names that `OpenRequest.device` accepts, best first; requires that the backend is available."""
        ...

    def facts(self) -> Mapping[str, str]:
        """Return what an artifact's `requires` is compared with, e.g. `{'tensorrt-rtx': '1.7.1.116', 'sm': '8.9'}`."""
        ...

    def errors(self) -> tuple[type[Exception], ...]:
        """Return the library's error classes, which `Session` maps; requires that the backend is available."""
        ...

    def open(self, request: OpenRequest, /) -> BackendSession:
        """Open a model; raises edgeact errors and those of `errors()`."""
        ...


class VersionedModule(Protocol):
    """A module with a version."""

    @property
    def __version__(self) -> str: ...


def module_version(module: VersionedModule | ModuleType) -> str:
    """Return the version that a module states."""
    return str(module.__version__)
