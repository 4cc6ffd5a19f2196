"""The recognizer: frames in, labels out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from edgeact.bundle import Manifest
from edgeact.clip import ClipSpec
from edgeact.errors import UsageError
from edgeact.extras import require
from edgeact.runtime.backends.base import Array
from edgeact.runtime.choice import Choice
from edgeact.runtime.prediction import Prediction, StageTimes, WindowResult, softmax
from edgeact.runtime.session import Session
from edgeact.runtime.stream import stream_windows

if TYPE_CHECKING:
    from edgeact.video import Preprocessor

__all__ = ["Recognizer"]

Image = NDArray[np.uint8]


class Recognizer:
    """A loaded bundle, as `edgeact.runtime.load` returns it.

    Threads may share a recognizer: their predictions run one after the other, because every prediction overwrites
    the same input buffer. Results belong to the caller. Use it as a context manager or call `close`.
    """

    def __init__(self, manifest: Manifest, session: Session, choice: Choice, threads: int | None = None) -> None:
        self.manifest = manifest
        self.choice = choice
        self.session = session
        self._lock = threading.Lock()
        self._threads = threads or os.cpu_count() or 1
        self._preprocess: Preprocessor | None = None  # made by the first prediction: it loads OpenCV

    @property
    def labels(self) -> tuple[str, ...]:
        """All classes, in the order of the scores."""
        return self.manifest.labels

    @property
    def clip(self) -> ClipSpec:
        """The clip contract: number of frames, rate and preprocessing."""
        return self.manifest.clip

    def predict(self, frames: Image | Sequence[Image], *, order: Literal["rgb", "bgr"] = "rgb") -> Prediction:
        """Classify one clip: T frames uint8 (H, W, 3) of any size, as one array (T, H, W, 3) or a sequence.

        `order` is the order of the frames' channels; OpenCV delivers 'bgr'. Raises InputError for other frames,
        UsageError for another order.
        """
        if order not in ("rgb", "bgr"):
            raise UsageError(f"order: expected 'rgb' or 'bgr', got '{order}'")
        with self._lock:
            preprocess = self._preprocess = self._preprocess or self._make_preprocessor()
            started_ns = time.perf_counter_ns()
            clip = preprocess(frames, order=order)
            prepared_ns = time.perf_counter_ns()
            logits, inference_ms = self.session.run(clip, known_finite=True)
        scores = softmax(logits[0])
        total_ms = (time.perf_counter_ns() - started_ns) / 1e6
        return Prediction(self.labels, scores, StageTimes((prepared_ns - started_ns) / 1e6, inference_ms, total_ms))

    def _make_preprocessor(self) -> Preprocessor:
        require("cv2", "video")
        from edgeact.video import Preprocessor

        return Preprocessor(self.clip, threads=self._threads)

    def logits(self, clip: Array) -> Array:
        """Return logits float32 (classes,) of one preprocessed clip, float32 (1, 3, T, H, W).

        For evaluation and parity. Raises InputError, ModelError, DeviceError or UsageError as `Session.run` does.
        """
        logits: Array = self.session.run(clip).logits[0]
        return logits

    def stream(self, source: str | int | Path, hop_s: float | None = None) -> Generator[WindowResult, None, None]:
        """Yield one result per window of a file, camera, address or GStreamer pipeline (`edgeact.video.open_source`).

        Windows start every `hop_s` seconds, by default without overlap. Frames are chosen by time stamp at the rate of
        training. A file is classified completely. A live source never lags: of the windows that arrive while the model
        is busy only the newest is classified, and the result counts the dropped ones. The source is opened by the
        first `next`, and released when the iteration ends, is closed, or fails.
        Raises VideoError, and UsageError for a hop that is not positive.
        """
        require("cv2", "video")
        return stream_windows(self.predict, self.clip, source, hop_s)

    def close(self) -> None:
        """Release the model; a later call raises UsageError."""
        self.session.close()
        with self._lock:
            if self._preprocess is not None:
                self._preprocess.close()
                self._preprocess = None

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
