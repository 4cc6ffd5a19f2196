"""Sampling of clips by time stamp, the same for files and streams."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgeact.clip import ClipSpec
from edgeact.errors import UsageError
from edgeact.video.frame import Frame, Image
from edgeact.video.recorded import open_recorded

__all__ = ["Window", "WindowCutter", "read_clips", "window_count", "window_starts"]

_MIN_HOP_S = 0.001


@dataclass(frozen=True, eq=False)
class Window:
    """One clip of a video: `frames` are T RGB uint8 images (H, W, 3), possibly shared with other windows.

    A window covers `start_s` to `end_s` of the source's time; `times_s` are the stamps of its frames.
    """

    start_s: float
    end_s: float
    frames: tuple[Image, ...]
    times_s: tuple[float, ...]


def window_starts(duration_s: float, clip: ClipSpec, hop_s: float | None = None) -> tuple[float, ...]:
    """Return the start times in seconds of the windows that fit into a video of `duration_s`, one every `hop_s`.

    By default windows follow each other without overlap. A window may end up to half a clip frame after the video,
    and a video shorter than the clip has one window at 0. Raises UsageError for a duration or hop that is not positive.
    """
    hop_s = checked_hop(clip, hop_s)
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise UsageError(f"expected a duration above 0 s, got {duration_s}")
    return tuple(index * hop_s for index in range(max(1, window_count(duration_s, clip, hop_s))))


def window_count(duration_s: float, clip: ClipSpec, hop_s: float) -> int:
    """Return how many windows, one every `hop_s`, end at most half a clip frame after `duration_s`."""
    slack_s = 0.5 / clip.fps
    return max(0, math.floor((duration_s + slack_s - clip.duration_s) / hop_s + 1e-9) + 1)


def checked_hop(clip: ClipSpec, hop_s: float | None) -> float:
    """Return `hop_s`, or the clip's duration for None; raises UsageError for less than a millisecond."""
    if hop_s is None:
        return clip.duration_s
    if not (math.isfinite(hop_s) and hop_s >= _MIN_HOP_S):
        raise UsageError(f"expected a hop of at least {_MIN_HOP_S} s between windows, got {hop_s}")
    return hop_s


def read_clips(path: str | Path, clip: ClipSpec, starts_s: Sequence[float]) -> Iterator[Image]:
    """Yield one RGB uint8 array (T, h, w, 3) per start time, in the size of the video and owned by the receiver.

    The video is decoded once, up to the last frame needed; only incomplete windows are in memory. Each frame is the
    nearest to `start + i / fps` by time stamp; after the end the last frame repeats. `starts_s` must ascend.
    Raises UsageError for other starts, VideoError if the video cannot be opened or contains no frame.
    """
    for earlier, later in itertools.pairwise(starts_s):
        if not earlier <= later:
            raise UsageError(f"window starts must ascend, got {later} s after {earlier} s; sort them")
    return _read(path, clip, starts_s)


def _read(path: str | Path, clip: ClipSpec, starts_s: Sequence[float]) -> Iterator[Image]:
    cutter = WindowCutter(clip, starts_s)
    with open_recorded(path) as source:
        for frame in source:
            for window in cutter.push(frame):
                yield np.stack(window.frames)
            if cutter.done:
                return
    for window in cutter.finish():
        yield np.stack(window.frames)


@dataclass
class _OpenWindow:
    start_s: float
    frames: list[Frame] = field(default_factory=list)


class WindowCutter:
    """Assigns arriving frames to windows: each sampling time of a window gets the nearest frame.

    A sampling time is decided by the first frame at or after it, so a window is complete without another frame.
    `starts_s` ascends and may be endless; only incomplete windows are in memory.
    """

    def __init__(self, clip: ClipSpec, starts_s: Iterable[float]) -> None:
        self._clip = clip
        self._starts = iter(starts_s)
        self._next_start = next(self._starts, None)
        self._open: deque[_OpenWindow] = deque()
        self._last: Frame | None = None

    @property
    def done(self) -> bool:
        """Whether every window is complete."""
        return self._next_start is None and not self._open

    def push(self, frame: Frame) -> list[Window]:
        """Add a frame, later than all before; return the windows that it completes, in order of their start."""
        self._open_until(frame.time_s)
        for window in self._open:
            self._fill(window, frame)
        self._last = frame
        return self._completed()

    def finish(self, last_start_s: float = math.inf) -> list[Window]:
        """Complete the windows that start up to `last_start_s` with the last frame, at the end of the video.

        Endless `starts_s` require a finite `last_start_s`.
        """
        if self._last is None:
            return []
        self._open_until(last_start_s)
        for window in self._open:
            if window.start_s <= last_start_s:
                missing = self._clip.clip_frames - len(window.frames)
                window.frames.extend([self._last] * missing)
        return self._completed()

    def _open_until(self, time_s: float) -> None:
        while self._next_start is not None and self._next_start <= time_s:
            self._open.append(_OpenWindow(self._next_start))
            self._next_start = next(self._starts, None)

    def _fill(self, window: _OpenWindow, frame: Frame) -> None:
        while len(window.frames) < self._clip.clip_frames:
            sample_s = window.start_s + len(window.frames) / self._clip.fps
            if sample_s > frame.time_s:
                return
            window.frames.append(self._nearest(sample_s, frame))

    def _nearest(self, time_s: float, frame: Frame) -> Frame:
        if self._last is not None and time_s - self._last.time_s <= frame.time_s - time_s:
            return self._last
        return frame

    def _completed(self) -> list[Window]:
        windows = []
        while self._open and len(self._open[0].frames) == self._clip.clip_frames:
            window = self._open.popleft()
            windows.append(
                Window(
                    window.start_s,
                    window.start_s + self._clip.duration_s,
                    tuple(frame.image for frame in window.frames),
                    tuple(frame.time_s for frame in window.frames),
                )
            )
        return windows
