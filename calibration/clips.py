"""Network inputs from labelled videos: all windows of a video, or a sample spread over classes and source videos."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeact.calibration.datasets import VideoItem
from edgeact.clip import ClipSpec
from edgeact.errors import CalibrationError, VideoError
from edgeact.progress import OnProgress
from edgeact.video import VideoInfo, preprocess, probe_video, read_clips, window_starts

__all__ = ["ClipSample", "oddities", "sample_clips", "spread", "video_inputs"]

Clips = npt.NDArray[np.float32]

_MISSING_FRAMES = 2  # containers often promise one or two frames more than they hold


@dataclass(frozen=True)
class ClipSample:
    """Clips float32 `(1, 3, T, H, W)` each, the videos they came from, and how many videos could not be read."""

    inputs: tuple[Clips, ...]
    items: tuple[VideoItem, ...]
    skipped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def classes(self) -> int:
        """Number of classes represented."""
        return len({item.label for item in self.items})


def video_inputs(item: VideoItem, clip: ClipSpec, info: VideoInfo) -> Iterator[Clips]:
    """Every non-overlapping window of a probed video as the network takes it; VideoError where it cannot be read."""
    for frames in read_clips(item.path, clip, window_starts(info.duration_s, clip)):
        yield preprocess(frames, clip)


def oddities(info: VideoInfo, clip: ClipSpec) -> tuple[str, ...]:
    """What had to be handled to use a video; in most there is nothing."""
    found = {
        "shorter than one clip, last frame repeated": info.duration_s < clip.duration_s - 0.5 / clip.fps,
        "damaged, its readable frames used": info.header_frames - info.frames > _MISSING_FRAMES,
        "rotated": info.rotation_degrees != 0,
        "variable frame rate": info.variable_rate,
        "time stamps repaired": info.repaired_stamps > 1,
    }
    return tuple(name for name, is_so in found.items() if is_so)


def sample_clips(
    items: Sequence[VideoItem],
    clip: ClipSpec,
    count: int,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> ClipSample:
    """Up to `count` clips, one a video, as even as possible over classes, then over groups.

    The window within a video is drawn at random; the same arguments give the same clips. Unreadable videos are
    counted and replaced by the next in turn. `on_progress(clips, expected)` is called after every clip.
    Raises CalibrationError where no clip at all could be read.
    """
    rng = np.random.default_rng(seed)
    inputs: list[Clips] = []
    chosen: list[VideoItem] = []
    skipped: Counter[str] = Counter()
    for item in spread(items, seed):
        if len(inputs) >= count:
            break
        try:
            starts = window_starts(probe_video(item.path).duration_s, clip)
            (frames,) = read_clips(item.path, clip, (starts[rng.integers(len(starts))],))
        except VideoError:
            skipped["unreadable"] += 1
            continue
        inputs.append(preprocess(frames, clip))
        chosen.append(item)
        if on_progress:
            on_progress(len(inputs), min(count, len(items)))
    if not inputs:
        raise CalibrationError(f"none of {len(items)} videos could be read; expected at least one clip")
    return ClipSample(tuple(inputs), tuple(chosen), skipped)


def spread(items: Sequence[VideoItem], seed: int = 0) -> Iterator[VideoItem]:
    """All items, in an order any prefix of which is even over classes, and within a class over groups."""
    rng = np.random.default_rng(seed)
    by_class: dict[int, dict[str, list[VideoItem]]] = defaultdict(lambda: defaultdict(list))
    for index in rng.permutation(len(items)):
        item = items[int(index)]
        by_class[item.label][item.group].append(item)
    queues = [_round_robin(list(groups.values())) for _, groups in sorted(by_class.items())]
    return iter(_round_robin(queues))


def _round_robin(queues: list[list[VideoItem]]) -> list[VideoItem]:
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
