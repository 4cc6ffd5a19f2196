"""Facts about a video, measured by decoding it once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgeact.errors import VideoError
from edgeact.video.recorded import no_frame_message, open_recorded

__all__ = ["VideoInfo", "duration_of", "probe_video"]

_VARIABLE = 1.5  # more than stamps rounded to milliseconds cause at a constant rate


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video, measured while decoding it, not read from its header.

    `duration_s` includes the duration of the last frame; `fps` is the mean rate; `width` and `height` are pixels after
    rotation by `rotation_degrees`. `frames` is the number of decoded frames, `header_frames` what the header states
    (0: nothing); `repaired_stamps` frames had a missing or implausible time stamp. `variable_rate`: the longest
    interval between two frames is over 1.5 times the shortest.
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
    """Decode the video at `path` once and return its facts.

    Raises VideoError if the file cannot be opened or contains no frame.
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
    """Return the duration of `frames` frames whose first and last are `span_s` seconds apart.

    The last frame gets the mean interval; a single frame has duration 0, because its interval is unknown.
    """
    return span_s * frames / (frames - 1) if frames > 1 else 0.0
