"""Network inputs from labelled videos: all windows of one, or a sample spread over classes, motion and groups."""

from __future__ import annotations

import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from edgeact.calibration.datasets import VideoItem
from edgeact.clip import ClipSpec
from edgeact.errors import CalibrationError, VideoError
from edgeact.progress import OnProgress
from edgeact.video import VideoInfo, preprocess, probe_video, read_clips, window_starts

__all__ = ["ClipSample", "motion", "oddities", "sample_clips", "stratified_order", "video_inputs"]

Clips = npt.NDArray[np.float32]

_Item = TypeVar("_Item")

_READ_PER_TAKEN = 2
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

    @property
    def groups(self) -> int:
        """Number of groups (persons, source videos) represented."""
        return len({item.group for item in self.items})

    @functools.cached_property
    def motions(self) -> tuple[float, ...]:
        """How much each clip moves, see `motion`."""
        return tuple(motion(clip) for clip in self.inputs)


@dataclass(frozen=True)
class _Candidate:
    clip: Clips
    item: VideoItem
    motion: float


def motion(clip: Clips) -> float:
    """Mean absolute difference of neighbouring frames of a network input `(1, 3, T, H, W)`; 0 for one frame."""
    return float(np.abs(np.diff(clip, axis=2)).mean()) if clip.shape[2] > 1 else 0.0


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
    """Up to `count` clips, one a video, as even as possible over classes, and within a class over motion and groups.

    Twice as many clips are read, where there are so many videos; of a class with two or more, the slowest and the
    fastest are in. The window within a video is drawn at random; the same arguments give the same clips, any prefix
    of which is even over classes. Unreadable videos are counted and replaced by the next in turn.
    `on_progress(clips, expected)` is called after every clip read.
    Raises CalibrationError where no clip at all could be read.
    """
    skipped: Counter[str] = Counter()
    candidates = []
    for candidate in itertools.islice(_readable(items, clip, seed, skipped), _READ_PER_TAKEN * count):
        candidates.append(candidate)
        if on_progress:
            on_progress(len(candidates), min(_READ_PER_TAKEN * count, len(items)))
    if not candidates:
        raise CalibrationError(f"none of {len(items)} videos could be read; expected at least one clip")
    quotas = Counter(candidate.item.label for candidate in candidates[:count])
    chosen = []
    for label, quota in sorted(quotas.items()):
        chosen.append(_spread_over_motion([one for one in candidates if one.item.label == label], quota))
    taken = _round_robin(chosen)
    return ClipSample(tuple(one.clip for one in taken), tuple(one.item for one in taken), skipped)


def _readable(items: Sequence[VideoItem], clip: ClipSpec, seed: int, skipped: Counter[str]) -> Iterator[_Candidate]:
    """One window of every video that can be read, in the order of `stratified_order`."""
    rng = np.random.default_rng(seed)
    for item in stratified_order(items, seed):
        try:
            starts = window_starts(probe_video(item.path).duration_s, clip)
            (frames,) = read_clips(item.path, clip, (starts[rng.integers(len(starts))],))
        except VideoError:
            skipped["unreadable"] += 1
            continue
        network_input = preprocess(frames, clip)
        yield _Candidate(network_input, item, motion(network_input))


def _spread_over_motion(candidates: list[_Candidate], quota: int) -> list[_Candidate]:
    """`quota` of one class's candidates, in their order: one from every stratum of motion, the ends themselves too.

    Within a stratum the group that has given least so far is asked.
    """
    ranked = sorted(range(len(candidates)), key=lambda index: candidates[index].motion)
    taken: list[int] = []
    groups: Counter[str] = Counter()
    strata = [list(map(int, stratum)) for stratum in np.array_split(ranked, quota)]
    if quota > 1:
        strata[0], strata[-1] = strata[0][:1], strata[-1][-1:]
    for stratum in sorted(strata, key=len):  # the ends first, which leave no choice
        index = min(stratum, key=lambda one: (groups[candidates[one].item.group], one))
        taken.append(index)
        groups[candidates[index].item.group] += 1
    return [candidates[index] for index in sorted(taken)]


def stratified_order(items: Sequence[VideoItem], seed: int = 0) -> Iterator[VideoItem]:
    """All items, in an order any prefix of which is even over classes, and within a class over groups."""
    rng = np.random.default_rng(seed)
    by_class: dict[int, dict[str, list[VideoItem]]] = defaultdict(lambda: defaultdict(list))
    for index in rng.permutation(len(items)):
        item = items[int(index)]
        by_class[item.label][item.group].append(item)
    queues = [_round_robin(list(groups.values())) for _, groups in sorted(by_class.items())]
    return iter(_round_robin(queues))


def _round_robin(queues: Sequence[Sequence[_Item]]) -> list[_Item]:
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
