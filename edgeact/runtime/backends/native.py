"""The INT8 engine of edgeact for x86-64 processors with AVX2 and for ARM: part of the package."""

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
    """Native programs (`edgeact.runtime.native`); the engine's threads sleep between clips."""

    name = "native"
    kinds: frozenset[Kind] = frozenset({"native-program"})
    computes = True

    def why_unavailable(self) -> str | None:
        """Return that the engine is not built or does not load, or that the processor lacks AVX2, else None."""
        machine = platform.machine()
        if not native.library_file.is_file():
            return (
                f"native: this installation on {machine} has no engine; expected Linux on x86-64, or the wheel "
                "for Linux on aarch64: install edgeact again there, elsewhere use another backend"
            )
        try:
            isa = native.chosen_isa()
        except BackendUnavailableError as error:
            return str(error)
        except OSError as error:
            return f"native: {error}"
        if isa is None:
            return "native: expected a processor with AVX2 and FMA, this one lacks them; use backend openvino"
        return None

    def version(self) -> str:
        """Return the version of edgeact, which contains the engine."""
        return edgeact.__version__

    def devices(self) -> tuple[str, ...]:
        """Return ('CPU',)."""
        return (_DEVICE,)

    def facts(self) -> Mapping[str, str]:
        """Return the version and the instruction set, as 'amx-int8'."""
        return {"native": self.version(), "instructions": native.chosen_isa() or "none"}

    def errors(self) -> tuple[type[Exception], ...]:
        """Return (): the engine raises edgeact errors itself."""
        return ()

    def open(self, request: OpenRequest, /) -> BackendSession:
        """Prepare the program for this processor; raises BackendUnavailableError or ModelError."""
        if request.device not in (None, _DEVICE):
            raise BackendUnavailableError(f"native: device '{request.device}' does not exist; expected '{_DEVICE}'")
        isa = native.chosen_isa()
        if isa is None:
            raise BackendUnavailableError(str(self.why_unavailable()))
        program, tensors = read_program(request.graph, request.weights or b"")
        clip = program.instructions[0]
        if clip.kind != "input" or (1, clip.channels, *clip.size) != request.input_shape:
            raise ModelError(
                f"native program: expected an input of shape {request.input_shape}; export the model again"
            )
        if (classes := program.arrays[program.logits][3]) != request.output_size:
            raise ModelError(
                f"native program: expected {request.output_size} logits, got {classes}; export the model again"
            )
        engine = Engine(program, tensors, request.threads or usable_cores(), isa)
        return _NativeSession(engine, isa)


class _NativeSession:
    notes: tuple[str, ...] = ()

    def __init__(self, engine: Engine, isa: native.Isa) -> None:
        self._engine = engine
        self.device = f"{_DEVICE} ({isa})"

    def run(self, clip: Array, /) -> Array:
        return np.array(self._engine.run(clip)[None])

    def close(self) -> None:
        self._engine.close()
