"""From a source of frames to one result a window; a recording is never cut short, a live source never lags."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeact.clip import ClipSpec
from edgeact.runtime.prediction import Prediction, WindowResult

if TYPE_CHECKING:
    from edgeact.video import ClipBuffer, Frame, RecordedSource, Window

__all__ = ["stream_windows"]

log = logging.getLogger("edgeact.runtime")

_LONGEST_GOODBYE_S = 5.0

Predict = Callable[[Sequence[Any]], Prediction]


class LiveFrames(Protocol):
    """What a live source is to this file."""

    dropped_frames: int

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


def stream_windows(
    predict: Predict, clip: ClipSpec, source: str | int | Path, hop_s: float | None
) -> Generator[WindowResult, None, None]:
    """Open `source` when the first result is asked for, and release it when the iteration ends or is closed."""
    from edgeact.video import ClipBuffer, LiveSource, open_source

    notes: list[str] = []

    def tell(text: str) -> None:
        log.info("%s", text)  # at once, the next result may be long in coming
        notes.append(text)

    buffer = ClipBuffer(clip, hop_s, on_note=tell)
    opened = open_source(source, on_note=tell)
    if isinstance(opened, LiveSource):
        yield from live_results(predict, buffer, opened, notes)
    else:
        yield from recorded_results(predict, buffer, opened, notes)


def recorded_results(
    predict: Predict, buffer: ClipBuffer, source: RecordedSource, notes: list[str]
) -> Generator[WindowResult, None, None]:
    """Every window, in order."""
    with source:
        for frame in source:
            for window in buffer.push(frame):
                yield _result(predict, window, notes)
        for window in buffer.finish():
            yield _result(predict, window, notes)


def live_results(
    predict: Predict, buffer: ClipBuffer, source: LiveFrames, notes: list[str]
) -> Generator[WindowResult, None, None]:
    """The newest window whenever the model is free."""
    mailbox = _Mailbox()
    reader = threading.Thread(target=_read, args=(source, buffer, mailbox), name="edgeact-windows", daemon=True)
    reader.start()
    frames_dropped = 0
    try:
        while (taken := mailbox.take()) is not None:
            window, windows_dropped = taken
            lost, frames_dropped = source.dropped_frames - frames_dropped, source.dropped_frames
            yield _result(predict, window, notes, windows_dropped, lost)
    finally:
        mailbox.stop()
        source.close()
        reader.join(_LONGEST_GOODBYE_S)  # a read that hangs in a driver must not hang the program


def _result(
    predict: Predict, window: Window, notes: list[str], windows_dropped: int = 0, frames_dropped: int = 0
) -> WindowResult:
    told = tuple(notes)
    del notes[: len(told)]
    return WindowResult(window.start_s, window.end_s, predict(window.frames), windows_dropped, frames_dropped, told)


def _read(source: LiveFrames, buffer: ClipBuffer, mailbox: _Mailbox) -> None:
    """Body of the reader's thread: frames are taken as they come, so that time stamps stay dense."""
    failure: Exception | None = None
    try:
        for frame in source:
            for window in buffer.push(frame):
                mailbox.put(window)
            if mailbox.stopped:
                break
        for window in buffer.finish():
            mailbox.put(window)
    except Exception as error:  # raised again where the results are taken
        failure = error
    mailbox.end(failure)


class _Mailbox:
    """Holds one window: a newer one replaces it, and the replaced are counted."""

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
        """The window with the number of those it replaced, or None after the end; raises what the reader met."""
        with self._changed:
            self._changed.wait_for(lambda: self._window is not None or self._ended)
            if self._window is None:
                if self._failure is not None:
                    raise self._failure
                return None
            taken = self._window, self._replaced
            self._window, self._replaced = None, 0
            return taken

    def end(self, failure: Exception | None) -> None:
        with self._changed:
            self._ended = True
            self._failure = failure
            self._changed.notify()

    def stop(self) -> None:
        self.stopped = True
