"""What a backend is: five questions, and sessions that do `run(array) -> array` and `close()`.

State checks, checks of arrays, timing and the mapping of errors are not a backend's work: `edgeact.runtime.session`
does them once for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeact.bundle.manifest import Kind
from edgeact.records import Precision

__all__ = ["Array", "Backend", "BackendSession", "OpenRequest"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class OpenRequest:
    """Everything a backend needs to open one artifact; the bytes are already verified against the manifest."""

    graph: bytes = field(repr=False)
    """ONNX model, OpenVINO IR (XML), native program (JSON), or an engine that somebody vouched for."""
    kind: Kind
    precision: Precision
    """'fp32' is computed in FP32; the others leave the library its speed-ups (BF16, TF32) for what is in float."""
    input_shape: tuple[int, ...]
    """`(1, 3, T, H, W)`."""
    output_size: int
    """Number of classes."""
    weights: bytes | None = field(default=None, repr=False)
    """Weights of the IR or of the native program; None for every other kind."""
    recipe: bytes | None = field(default=None, repr=False)
    """The TensorRT build recipe (JSON); None where the artifact has none."""
    input_name: str = "clip"
    output_name: str = "logits"
    device: str | None = None
    """One of the backend's `devices()`; None: the best one."""
    threads: int | None = None
    """CPU threads; None: the library's own choice."""
    cache_folder: Path | None = None
    """Where engines built here are kept; None: nothing is kept."""
    as_written: bool = False
    """Keep the library from restating quantized layers, where it would; to check a graph made for another library."""


class BackendSession(Protocol):
    """One opened model. Not thread-safe: its one caller, `edgeact.runtime.Session`, serialises the calls."""

    device: str
    """Where it really runs, which may be less than what was hoped for."""
    notes: tuple[str, ...]
    """What the user should be told, e.g. that the library fell back to another device."""

    def run(self, clip: Array, /) -> Array:
        """Logits `(1, classes)`, owned by the caller, of one C-contiguous float32 clip `(1, 3, T, H, W)`."""
        ...

    def close(self) -> None:
        """Release everything; called once."""
        ...


class Backend(Protocol):
    """One inference library. Making one costs nothing: the library is imported by the methods that need it."""

    @property
    def name(self) -> str:
        """As in the table `BACKENDS`."""
        ...

    @property
    def kinds(self) -> frozenset[Kind]:
        """Kinds of artifacts it can open."""
        ...

    def why_unavailable(self) -> str | None:
        """Why it cannot be used on this machine and what to do about it; None where it can."""
        ...

    def version(self) -> str:
        """Version of the library; only where it is available."""
        ...

    def devices(self) -> tuple[str, ...]:
        """Names that `OpenRequest.device` takes here, best first; only where it is available."""
        ...

    def facts(self) -> Mapping[str, str]:
        """What an artifact's `requires` is held against, e.g. `{'tensorrt-rtx': '1.7.1.116', 'sm': '8.9'}`."""
        ...

    def errors(self) -> tuple[type[Exception], ...]:
        """Classes the library raises from; `edgeact.runtime.Session` maps them. Only where it is available."""
        ...

    def open(self, request: OpenRequest, /) -> BackendSession:
        """Open a model; raises edgeact errors of its own and whatever `errors()` names."""
        ...


def module_version(module: Any) -> str:
    """The module's version as it tells it."""
    return str(module.__version__)
