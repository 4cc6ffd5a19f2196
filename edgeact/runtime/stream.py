"""Predictions of a stream of frames, one per window: a recording is classified completely, a live source never lags."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeact.clip import ClipSpec
from edgeact.runtime.prediction import Prediction, WindowResult

if TYPE_CHECKING:
    from edgeact.video import ClipBuffer, Frame, RecordedSource, Window

__all__ = ["stream_windows"]

log = logging.getLogger("edgeact.runtime")

_READER_JOIN_TIMEOUT_S = 5.0

Predict = Callable[[Sequence[NDArray[np.uint8]]], Prediction]


class LiveFrames(Protocol):
    """A live source, e.g. `edgeact.video.LiveSource`."""

    dropped_frames: int

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


def stream_windows(
    predict: Predict, clip: ClipSpec, source: str | int | Path, hop_s: float | None
) -> Generator[WindowResult, None, None]:
    """Open `source` at the first `next`, and release it when the iteration ends, is closed, or fails."""
    from edgeact.video import ClipBuffer, LiveSource, open_source

    notes: list[str] = []

    def add_note(text: str) -> None:
        log.info("%s", text)  # at once: the next result may take long
        notes.append(text)

    buffer = ClipBuffer(clip, hop_s, on_note=add_note)
    opened = open_source(source, on_note=add_note)
    if isinstance(opened, LiveSource):
        yield from live_results(predict, buffer, opened, notes)
    else:
        yield from recorded_results(predict, buffer, opened, notes)


def recorded_results(
    predict: Predict, buffer: ClipBuffer, source: RecordedSource, notes: list[str]
) -> Generator[WindowResult, None, None]:
    """Classify every window in order."""
    with source:
        for frame in source:
            for window in buffer.push(frame):
                yield _result(predict, window, notes)
        for window in buffer.finish():
            yield _result(predict, window, notes)


def live_results(
    predict: Predict, buffer: ClipBuffer, source: LiveFrames, notes: list[str]
) -> Generator[WindowResult, None, None]:
    """Classify the newest window whenever the model is free."""
    mailbox = _Mailbox()
    reader = threading.Thread(target=_read, args=(source, buffer, mailbox), name="edgeact-windows", daemon=True)
    reader.start()
    frames_dropped = 0
    try:
        while (received := mailbox.take()) is not None:
            window, windows_dropped = received
            lost, frames_dropped = source.dropped_frames - frames_dropped, source.dropped_frames
            yield _result(predict, window, notes, windows_dropped, lost)
    finally:
        mailbox.stop()
        source.close()
        reader.join(_READER_JOIN_TIMEOUT_S)  # a read that hangs in a driver must not hang the program


def _result(
    predict: Predict, window: Window, notes: list[str], windows_dropped: int = 0, frames_dropped: int = 0
) -> WindowResult:
    new_notes = tuple(notes)
    del notes[: len(new_notes)]
    prediction = predict(window.frames)
    return WindowResult(window.start_s, window.end_s, prediction, windows_dropped, frames_dropped, new_notes)


def _read(source: LiveFrames, buffer: ClipBuffer, mailbox: _Mailbox) -> None:
    """Body of the reader's thread: frames are read as they arrive, so that their time stamps stay exact."""
    failure: Exception | None = None
    try:
        for frame in source:
            for window in buffer.push(frame):
                mailbox.put(window)
            if mailbox.stopped:
                break
        for window in buffer.finish():
            mailbox.put(window)
    except Exception as error:  # raised again in `take`, on the caller's thread
        failure = error
    mailbox.end(failure)


class _Mailbox:
    """Holds one window: a newer window replaces it, and the replaced ones are counted."""

    def __init__(self) -> None:
        self.stopped = False
        self._changed = threading.Condition()
        self._window: Window | None = None
        self._replaced = 0
        self._ended = False
        self._failure: Exception | None = None

    def put(self, window: Window) -> None:
        with self._changed:
            self._replaced += self._window is not None
            self._window = window
            self._changed.notify()

    def take(self) -> tuple[Window, int] | None:
        """Wait for a window and return it with the number of replaced ones; None after the end.

        Raises the reader's error.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._window is not None or self._ended)
            if self._window is None:
                if self._failure is not None:
                    raise self._failure
                return None
            received = self._window, self._replaced
            self._window, self._replaced = None, 0
            return received

    def end(self, failure: Exception | None) -> None:
        with self._changed:
            self._ended = True
            self._failure = failure
            self._changed.notify()

    def stop(self) -> None:
        self.stopped = True
