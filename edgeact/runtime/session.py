"""The one caller of every backend: checks arrays and state, serialises and times the calls, maps the errors."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from edgeact.errors import BackendUnavailableError, DeviceError, EdgeactError, InputError, ModelError, UsageError
from edgeact.runtime.backends.base import Array, Backend, BackendSession, OpenRequest

__all__ = ["Run", "Session"]


class Run(NamedTuple):
    """What one call gave: `logits` float32 (1, classes), the receiver's, and how long the backend took."""

    logits: Array
    inference_ms: float


class Session:
    """An opened artifact. Threads may share it: their calls run one after the other.

    Use it as a context manager or call `close`; a run after that raises UsageError.
    """

    def __init__(self, backend: Backend, request: OpenRequest) -> None:
        """Open `request` with `backend`; raises DeviceError, BackendUnavailableError, ModelError."""
        self.backend = backend.name
        self.input_shape = request.input_shape
        self._output_shape = (1, request.output_size)
        self._lock = threading.Lock()
        self._inner: BackendSession | None = None
        self._library_errors: tuple[type[Exception], ...] = ()
        with self._mapped("opening the model"):
            self._library_errors = backend.errors()
            self._inner = backend.open(request)
        self.device = self._inner.device
        self.notes = self._inner.notes

    def run(self, clip: Array, *, known_finite: bool = False) -> Run:
        """Classify one clip, float32 (1, 3, T, H, W), finite; an array that is not C-contiguous is copied first.

        `known_finite` spares looking for NaN where the clip was made of integers.
        Raises InputError for an array that is not so, ModelError for logits that are not finite, DeviceError where
        the backend fails, UsageError on a closed session.
        """
        clip = self._checked_clip(clip, known_finite)
        with self._lock:
            if self._inner is None:
                raise UsageError("the session is closed; load the bundle again")
            started_ns = time.perf_counter_ns()
            try:
                logits = self._inner.run(clip)
            except Exception as error:
                self._raise(error, "running the model")
                raise
            inference_ms = (time.perf_counter_ns() - started_ns) / 1e6
        return Run(self._checked_logits(logits), inference_ms)

    def close(self) -> None:
        """Release the model; waits for the run under way. Calling it again does nothing."""
        with self._lock:
            inner, self._inner = self._inner, None
            if inner is not None:
                with self._mapped("closing the model"):
                    inner.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _checked_clip(self, clip: Any, known_finite: bool) -> Array:
        if not isinstance(clip, np.ndarray):
            raise InputError(f"input: expected a numpy array, got {type(clip).__name__}")
        if clip.shape != self.input_shape or clip.dtype != np.float32:
            raise InputError(
                f"input: expected float32 of shape {self.input_shape}, got {clip.dtype} of shape {clip.shape}"
            )
        if known_finite:
            return np.ascontiguousarray(clip)
        # One sum is several times cheaper than a test of every value; only where it is not finite those are looked at.
        with np.errstate(all="ignore"):
            suspicious = not math.isfinite(float(clip.sum()))
        if suspicious and (bad := clip.size - int(np.count_nonzero(np.isfinite(clip)))):
            raise InputError(f"input: expected finite values, got {bad} NaN or infinite ones of {clip.size}")
        return np.ascontiguousarray(clip)

    def _checked_logits(self, logits: Array) -> Array:
        if logits.shape != self._output_shape or logits.dtype != np.float32:
            raise ModelError(
                f"{self.backend}: expected logits float32 of shape {self._output_shape}, "
                f"got {logits.dtype} of shape {logits.shape}; export the model again"
            )
        if not np.isfinite(logits).all():
            raise ModelError(
                f"{self.backend} on {self.device}: expected finite logits, got NaN or infinity; "
                "a half precision overflowed: choose an fp32 artifact"
            )
        return logits

    @contextlib.contextmanager
    def _mapped(self, action: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._raise(error, action)
            raise

    def _raise(self, error: Exception, action: str) -> None:
        """Raise the library's own errors as DeviceError; return where it is ours or a bug, and stays what it is."""
        if isinstance(error, EdgeactError):
            return
        if isinstance(error, (ImportError, OSError)):
            raise BackendUnavailableError(
                f"{self.backend} is installed but does not load: {error}; install it again, with the libraries it needs"
            ) from error
        if isinstance(error, MemoryError):
            raise DeviceError(f"{self.backend}: out of memory while {action}; choose a smaller artifact") from error
        if isinstance(error, self._library_errors):
            text = " ".join(str(error).split())
            raise DeviceError(f"{self.backend} failed while {action}: {type(error).__name__}: {text}") from error
