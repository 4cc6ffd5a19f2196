"""The single caller of every backend: checks arrays and state, serializes and times calls, and maps errors."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

import numpy as np

from edgeact.errors import BackendUnavailableError, DeviceError, EdgeactError, InputError, ModelError, UsageError
from edgeact.runtime.backends.base import Array, Backend, BackendSession, OpenRequest

__all__ = ["InferenceResult", "Session"]


class InferenceResult(NamedTuple):
    """Result of one call: `logits` float32 (1, classes), owned by the receiver, and the backend's time."""

    logits: Array
    inference_ms: float


class Session:
    """An opened artifact. Threads may share a session: their calls run one after the other.

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
        with self._mapped_errors("opening the model"):
            self._library_errors = backend.errors()
            self._inner = backend.open(request)
        self.device = self._inner.device
        self.notes = self._inner.notes

    def run(self, clip: Array, *, known_finite: bool = False) -> InferenceResult:
        """Classify one clip, finite float32 (1, 3, T, H, W); an array that is not C-contiguous is copied first.

        `known_finite` skips the check for NaN and infinity, e.g. if the clip was made from integers.
        Raises InputError for any other array, ModelError for logits that are not finite, DeviceError if the backend
        fails, UsageError on a closed session.
        """
        clip = self._checked_clip(clip, known_finite)
        with self._lock:
            if self._inner is None:
                raise UsageError("the session is closed; load the bundle again")
            with self._mapped_errors("running the model"):
                started_ns = time.perf_counter_ns()
                logits = self._inner.run(clip)
                inference_ms = (time.perf_counter_ns() - started_ns) / 1e6
        return InferenceResult(self._checked_logits(logits), inference_ms)

    def close(self) -> None:
        """Release the model after the run in progress; another call does nothing."""
        with self._lock:
            inner, self._inner = self._inner, None
            if inner is not None:
                with self._mapped_errors("closing the model"):
                    inner.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _checked_clip(self, clip: object, known_finite: bool) -> Array:
        if not isinstance(clip, np.ndarray):
            raise InputError(f"input: expected a numpy array, got {type(clip).__name__}")
        if clip.shape != self.input_shape or clip.dtype != np.float32:
            raise InputError(
                f"input: expected float32 of shape {self.input_shape}, got {clip.dtype} of shape {clip.shape}"
            )
        if known_finite:
            return np.ascontiguousarray(clip)
        # One sum is several times cheaper than a test of every value; only if it is not finite, every value is tested.
        with np.errstate(all="ignore"):
            is_suspicious = not math.isfinite(float(clip.sum()))
        if is_suspicious and (bad := clip.size - int(np.count_nonzero(np.isfinite(clip)))):
            raise InputError(f"input: expected finite values, got {bad} NaN or infinite values of {clip.size}")
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
                "half precision overflowed: choose an fp32 artifact"
            )
        return logits

    @contextlib.contextmanager
    def _mapped_errors(self, action: str) -> Iterator[None]:
        """Map errors of the library and of the system to edgeact errors; programming errors pass unchanged."""
        try:
            yield
        except EdgeactError:
            raise
        except (ImportError, OSError) as error:
            raise BackendUnavailableError(
                f"{self.backend} is installed but does not load: {error}; "
                f"install {self.backend} again, with the libraries it needs"
            ) from error
        except MemoryError as error:
            raise DeviceError(f"{self.backend}: out of memory while {action}; choose a smaller artifact") from error
        except self._library_errors as error:
            text = " ".join(str(error).split())
            raise DeviceError(f"{self.backend} failed while {action}: {type(error).__name__}: {text}") from error
