"""Sampling of windows from a stream of frames at the rate of training, for any rate of the source."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

from edgeact.clip import ClipSpec
from edgeact.errors import InputError, UsageError
from edgeact.video.frame import Frame
from edgeact.video.info import duration_of
from edgeact.video.sampling import Window, WindowCutter, checked_hop, window_count

__all__ = ["ClipBuffer"]

_SLOW = 0.95


class ClipBuffer:
    """Converts frames with time stamps to windows, one every `hop_s` (by default the duration of the clip).

    Sampling times count from the first frame; each gets the nearest frame, so a source slower than `clip.fps` repeats
    frames, which `on_note` reports once. A pause longer than `max_gap_s` (half a clip, at least 1 s) drops incomplete
    windows and restarts at the next frame: a window never spans a pause. Frames whose stamp is not later than the
    previous one are ignored. Only incomplete windows are in memory. `restarts` and `ignored_frames` count these events.
    Raises UsageError for a hop or gap that is not positive.
    """

    def __init__(
        self,
        clip: ClipSpec,
        hop_s: float | None = None,
        *,
        max_gap_s: float | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        if max_gap_s is not None and not max_gap_s > 0:
            raise UsageError(f"expected max_gap_s above 0 s, got {max_gap_s}")
        self.restarts = 0
        self.ignored_frames = 0
        self._clip = clip
        self._hop_s = checked_hop(clip, hop_s)
        self._max_gap_s = max(1.0, clip.duration_s / 2) if max_gap_s is None else max_gap_s
        self._on_note = on_note
        self._reported_slow = False
        self._earlier_windows = 0
        self._segment: _Segment | None = None

    def push(self, frame: Frame) -> list[Window]:
        """Add a frame; return the windows that it completes, oldest first. Raises InputError for a stamp not finite."""
        if not math.isfinite(frame.time_s):
            raise InputError(f"expected a frame's time stamp in seconds, got {frame.time_s}")
        segment = self._segment
        if segment is not None:
            interval_s = frame.time_s - segment.last_s
            if abs(interval_s) > self._max_gap_s:
                self._restart(segment, interval_s)
                segment = None
            elif interval_s <= 0:
                self.ignored_frames += 1
                return []
        if segment is None:
            segment = self._segment = _Segment(self._clip, self._hop_s, frame.time_s)
        windows = segment.push(frame)
        if windows:
            self._report_slow(segment)
        return windows

    def finish(self) -> list[Window]:
        """Return the windows at the end of the source that lack at most half a clip frame, as `window_starts` counts.

        A source too short for any window has one whose last frame repeats; a source without frames has none.
        """
        if self._segment is None:
            return []
        windows = self._segment.finish(at_least=0 if self._earlier_windows else 1)
        self._earlier_windows += self._segment.window_count
        self._segment = None
        return windows

    def _restart(self, segment: _Segment, interval_s: float) -> None:
        self.restarts += 1
        self._earlier_windows += segment.window_count
        self._note(f"time stamps jump by {interval_s:+.2f} s between two frames; the incomplete windows are dropped")

    def _report_slow(self, segment: _Segment) -> None:
        if not self._reported_slow and segment.fps < _SLOW * self._clip.fps:
            self._reported_slow = True
            self._note(
                f"the source delivers {segment.fps:.1f} frames/s, the model was trained at {self._clip.fps:g}: "
                "frames repeat and accuracy may drop; raise the camera's rate"
            )

    def _note(self, text: str) -> None:
        if self._on_note is not None:
            self._on_note(text)


class _Segment:
    """Frames between two pauses."""

    def __init__(self, clip: ClipSpec, hop_s: float, origin_s: float) -> None:
        self.last_s = origin_s
        self.window_count = 0
        self._clip = clip
        self._hop_s = hop_s
        self._origin_s = origin_s
        self._frames = 0
        self._cutter = WindowCutter(clip, self._starts())

    @property
    def fps(self) -> float:
        """Mean rate so far, frames per second; 0 before the second frame."""
        span_s = self.last_s - self._origin_s
        return (self._frames - 1) / span_s if span_s > 0 else 0.0

    def push(self, frame: Frame) -> list[Window]:
        self.last_s = frame.time_s
        self._frames += 1
        windows = self._cutter.push(frame)
        self.window_count += len(windows)
        return windows

    def finish(self, at_least: int) -> list[Window]:
        duration_s = duration_of(self._frames, self.last_s - self._origin_s)
        count = max(at_least, window_count(duration_s, self._clip, self._hop_s))
        if count <= self.window_count:
            return []
        windows = self._cutter.finish(self._start(count - 1))
        self.window_count += len(windows)
        return windows

    def _starts(self) -> Iterator[float]:
        return (self._start(index) for index in itertools.count())

    def _start(self, index: int) -> float:
        return self._origin_s + index * self._hop_s
