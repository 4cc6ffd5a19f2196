"""Live sources: cameras and network streams, read on a thread of their own that stamps every frame on arrival."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

import cv2

from edgeact.errors import UsageError, VideoError
from edgeact.video.frame import Frame, bgr_to_rgb
from edgeact.video.recorded import fit

__all__ = ["LiveOptions", "LiveSource"]

_MAX_BACKOFF_S = 30.0


@dataclass(frozen=True)
class LiveOptions:
    """Reconnection, queue and timeout of a live source.

    After a lost connection the source reconnects up to `reconnects` times in a row, with exponential backoff from
    `backoff_s` seconds (30 s at most). The queue holds `queue_frames` frames; then the oldest is dropped. `timeout_s`
    seconds without an answer from a network stream count as a loss. Raises UsageError for values out of range.
    """

    reconnects: int = 5
    backoff_s: float = 0.5
    queue_frames: int = 32
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if self.reconnects < 0 or self.queue_frames < 1 or not (self.backoff_s >= 0 and self.timeout_s > 0):
            raise UsageError(
                f"expected reconnects and backoff_s from 0, queue_frames from 1, timeout_s above 0; got {self}"
            )


class LiveSource:
    """Endless frames of a camera or network stream. Use it as a context manager or call `close`.

    `time_s` is the arrival time by a monotonic clock, 0 at the first frame: a slow reader does not shift it, and it
    continues during a loss. `on_note` reports lost connections, on the thread that iterates; after the last
    reconnection fails, the iteration raises VideoError. `dropped_frames` counts frames that the reader was too slow
    for, `losses` counts lost connections.
    """

    live = True

    def __init__(
        self,
        open_capture: Callable[[], cv2.VideoCapture],
        name: str,
        options: LiveOptions,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        capture = open_capture()
        if not capture.isOpened():
            raise VideoError(
                f"cannot open '{name}': check connection and permissions, and that no other program uses the source"
            )
        self.name = name
        self.dropped_frames = 0
        self.losses = 0
        self._open_capture = open_capture
        self._options = options
        self._on_note = on_note
        self._first_s: float | None = None
        self._size: tuple[int, int] | None = None
        self._changed = threading.Condition()
        self._frames: deque[Frame] = deque()
        self._notes: deque[str] = deque()
        self._failure: Exception | None = None
        self._ended = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(capture,), name=f"edgeact-{name}", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._notes or self._frames or self._ended)
                notes = list(self._notes)
                self._notes.clear()
                frame = self._frames.popleft() if self._frames else None
                ended = self._ended
            for note in notes:
                if self._on_note is not None:
                    self._on_note(note)
            if frame is not None:
                return frame
            if ended:
                if self._failure is not None:
                    raise self._failure
                raise StopIteration

    def close(self) -> None:
        """Stop reading and release the source after the read in progress; another call does nothing."""
        self._closing.set()
        self._thread.join(timeout=self._options.timeout_s + 1.0)

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, capture: cv2.VideoCapture) -> None:
        """Body of the thread, the only user of the capture: releasing a capture during a read would crash."""
        try:
            self._read_until_closed(capture)
        except Exception as error:  # raised again in __next__, on the thread that iterates
            self._failure = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read_until_closed(self, capture: cv2.VideoCapture) -> None:
        failed = 0
        try:
            while not self._closing.is_set():
                frame = self._read(capture)
                if frame is not None:
                    failed = 0
                    self._put(frame)
                    continue
                capture.release()
                failed += 1
                if not self._back_off(failed):
                    return
                capture = self._open_capture()
        finally:
            capture.release()

    def _read(self, capture: cv2.VideoCapture) -> Frame | None:
        if not capture.grab():
            return None
        now_s = time.monotonic()
        retrieved, image = capture.retrieve()
        if not retrieved or image is None:
            return None
        rgb = bgr_to_rgb(image)
        if self._first_s is None or self._size is None:
            self._first_s, self._size = now_s, (rgb.shape[0], rgb.shape[1])
        return Frame(fit(rgb, self._size), now_s - self._first_s)

    def _put(self, frame: Frame) -> None:
        with self._changed:
            if len(self._frames) >= self._options.queue_frames:
                self._frames.popleft()
                self.dropped_frames += 1
            self._frames.append(frame)
            self._changed.notify()

    def _back_off(self, attempt: int) -> bool:
        """Wait before a reconnection; return False if the source is being closed. Raises VideoError after the last."""
        limit = self._options.reconnects
        if attempt > limit:
            raise VideoError(
                f"'{self.name}': connection lost, no frame after {limit} reconnections; check the camera or the network"
            )
        wait_s = min(_MAX_BACKOFF_S, self._options.backoff_s * 2 ** (attempt - 1))
        with self._changed:
            self.losses += attempt == 1
            self._notes.append(f"'{self.name}': no frames; reconnecting in {wait_s:g} s ({attempt} of {limit})")
            self._changed.notify()
        return not self._closing.wait(wait_s)
