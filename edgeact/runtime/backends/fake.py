"""A backend without a library, for tests of applications."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from edgeact.bundle.manifest import Kind
from edgeact.runtime.backends.base import Array, BackendSession, OpenRequest

__all__ = ["FakeBackend"]


class FakeBackendError(Exception):
    """Stands for the errors of a real library, which `edgeact.runtime.Session` maps."""


@dataclass
class FakeBackend:
    """Returns given logits; pass an instance as `edgeact.runtime.load(path, backend=FakeBackend(...))`.

    `logits`: a function from the clip `(1, 3, T, H, W)` to logits `(classes,)`, or constant logits; by default class 0
    wins. `unavailable`: a reason why the backend cannot be used. `fail_open`, `fail_run`: text of an error of the
    "library". `computes`: whether the self-check applies to the logits. `opened` lists all requests, and `closed`
    counts the closed sessions.
    """

    logits: Callable[[Array], Array] | Array | None = None
    unavailable: str | None = None
    fail_open: str | None = None
    fail_run: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    name: str = "fake"
    computes: bool = False
    opened: list[OpenRequest] = field(default_factory=list)
    closed: int = 0

    @property
    def kinds(self) -> frozenset[Kind]:
        """All kinds of artifacts."""
        return frozenset(typing.get_args(Kind))

    def why_unavailable(self) -> str | None:
        """Return `unavailable`."""
        return self.unavailable

    def version(self) -> str:
        """Return '0'."""
        return "0"

    def devices(self) -> tuple[str, ...]:
        """Return ('CPU',)."""
        return ("CPU",)

    def facts(self) -> Mapping[str, str]:
        """Return `properties`."""
        return self.properties

    def errors(self) -> tuple[type[Exception], ...]:
        """Return FakeBackendError."""
        return (FakeBackendError,)

    def open(self, request: OpenRequest, /) -> BackendSession:
        """Record the request; raises FakeBackendError if `fail_open` is set."""
        if self.fail_open is not None:
            raise FakeBackendError(self.fail_open)
        self.opened.append(request)
        return _FakeSession(self, request.output_size)


class _FakeSession:
    device = "CPU"
    notes: tuple[str, ...] = ()

    def __init__(self, backend: FakeBackend, classes: int) -> None:
        self._backend = backend
        self._default = np.zeros(classes, dtype=np.float32)
        self._default[0] = 1.0

    def run(self, clip: Array, /) -> Array:
        if self._backend.fail_run is not None:
            raise FakeBackendError(self._backend.fail_run)
        logits = self._default if self._backend.logits is None else self._backend.logits
        values = logits(clip) if callable(logits) else logits
        return np.array(values, dtype=np.float32)[np.newaxis]

    def close(self) -> None:
        self._backend.closed += 1
