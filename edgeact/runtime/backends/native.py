"""edgeact's own INT8 engine for x86-64 processors with AMX or AVX-512 VNNI: part of the package, needs no library."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import numpy as np

import edgeact
from edgeact.bundle.manifest import Kind
from edgeact.devices import usable_cores
from edgeact.errors import BackendUnavailableError, ModelError
from edgeact.runtime.backends.base import Array, BackendSession, OpenRequest
from edgeact.runtime.native import library as native
from edgeact.runtime.native.engine import Engine
from edgeact.runtime.native.reading import read_program

__all__ = ["NativeBackend"]

_DEVICE = "CPU"


class NativeBackend:
    """Programs of `edgeact.runtime.native`; threads sleep between clips."""

    name = "native"
    kinds: frozenset[Kind] = frozenset({"native-program"})

    def why_unavailable(self) -> str | None:
        """That this build has no engine, or that the processor lacks its instructions."""
        machine = platform.machine()
        if not native.library_file.is_file():
            return (
                f"native: this installation on {machine} has no engine, which is built for Linux on x86-64 alone; "
                "use another backend, there install edgeact again"
            )
        if native.instructions() is None:
            return "native: this processor has neither AMX nor AVX-512 VNNI; use the backend openvino"
        return None

    def version(self) -> str:
        """Of edgeact: it is part of it."""
        return edgeact.__version__

    def devices(self) -> tuple[str, ...]:
        """The CPU."""
        return (_DEVICE,)

    def facts(self) -> Mapping[str, str]:
        """Its version, and the instructions it computes with: 'amx-int8' or 'avx512-vnni'."""
        return {"native": self.version(), "instructions": native.instructions() or "none"}

    def errors(self) -> tuple[type[Exception], ...]:
        """None: what it does not take it refuses itself."""
        return ()

    def open(self, request: OpenRequest, /) -> BackendSession:
        """Lay the program out for this processor; raises BackendUnavailableError, ModelError."""
        if request.device not in (None, _DEVICE):
            raise BackendUnavailableError(f"native: device '{request.device}' is not here; it runs on {_DEVICE}")
        program, tensors = read_program(request.graph, request.weights or b"")
        clip = program.steps[0]
        if clip.kind != "input" or (1, clip.channels, *clip.size) != request.input_shape:
            raise ModelError(f"the native program does not take clips of {request.input_shape}; export it again")
        if program.arrays[program.logits][3] != request.output_size:
            raise ModelError(f"the native program does not give {request.output_size} logits; export it again")
        instructions = native.instructions()
        if instructions is None:
            raise BackendUnavailableError(str(self.why_unavailable()))
        engine = Engine(program, tensors, request.threads or usable_cores(), instructions)
        return _Session(engine, instructions)


class _Session:
    notes: tuple[str, ...] = ()

    def __init__(self, engine: Engine, instructions: str) -> None:
        self._engine = engine
        self.device = f"{_DEVICE} ({instructions})"

    def run(self, clip: Array, /) -> Array:
        return np.array(self._engine.run(clip)[None])

    def close(self) -> None:
        self._engine.close()
