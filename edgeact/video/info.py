"""What a video really holds, found by decoding it once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgeact.errors import VideoError
from edgeact.video.recorded import no_frame_message, open_recorded

__all__ = ["VideoInfo", "duration_of", "probe_video"]

_VARIABLE = 1.5  # beyond what rounding a stamp to milliseconds makes of a constant rate


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video, counted while decoding it, not read from its header.

    `duration_s` includes the last frame's own time; `fps` is the mean rate; `width` and `height` are pixels after
    rotation by `rotation_degrees`. `frames` were decoded, where the header promised `header_frames` (0: nothing);
    `repaired_stamps` of them had a missing or impossible time stamp. `variable_rate` says that the longest interval
    between two frames is over 1.5 times the shortest.
    """

    duration_s: float
    fps: float
    width: int
    height: int
    frames: int
    header_frames: int
    repaired_stamps: int
    rotation_degrees: int
    variable_rate: bool


def probe_video(path: str | Path) -> VideoInfo:
    """Decode the video at `path` once and say what it holds.

    Raises VideoError where it cannot be opened or holds no frame.
    """
    with open_recorded(path) as source:
        size: tuple[int, int] | None = None
        frames, last_s, shortest_s, longest_s = 0, 0.0, math.inf, 0.0
        while (time_s := source.advance()) is not None:
            if frames:
                shortest_s, longest_s = min(shortest_s, time_s - last_s), max(longest_s, time_s - last_s)
            frames, last_s = frames + 1, time_s
            if size is None and (image := source.image()) is not None:
                size = image.shape[0], image.shape[1]
        if size is None:
            raise VideoError(no_frame_message(source.name))
        duration_s = duration_of(frames, last_s) or source.header_interval_s
        return VideoInfo(
            duration_s=duration_s,
            fps=frames / duration_s,
            width=size[1],
            height=size[0],
            frames=frames,
            header_frames=source.header_frames,
            repaired_stamps=source.repaired_stamps,
            rotation_degrees=source.rotation_degrees,
            variable_rate=longest_s > _VARIABLE * shortest_s,
        )


def duration_of(frames: int, span_s: float) -> float:
    """Seconds that `frames` frames last whose first and last are `span_s` apart: the last one gets the mean interval.

    0 for a single frame, of which no interval is known.
    """
    return span_s * frames / (frames - 1) if frames > 1 else 0.0
