"""Read network inputs from labeled videos: all windows of a video, or a sample balanced over classes and motion."""

from __future__ import annotations

import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from edgeact.calibration.datasets import VideoItem
from edgeact.clip import ClipSpec
from edgeact.errors import CalibrationError, VideoError
from edgeact.progress import OnProgress
from edgeact.video import VideoInfo, preprocess, probe_video, read_clips, window_starts

__all__ = ["ClipSample", "find_irregularities", "motion", "sample_clips", "stratified_order", "video_inputs"]

Clips = npt.NDArray[np.float32]

_Item = TypeVar("_Item")

_CANDIDATES_PER_CLIP = 2
_MISSING_FRAMES = 2  # containers often claim one or two frames more than they hold


@dataclass(frozen=True)
class ClipSample:
    """Calibration clips, float32 `(1, 3, T, H, W)` each, their videos, and the numbers of skipped videos by reason."""

    inputs: tuple[Clips, ...]
    items: tuple[VideoItem, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def classes(self) -> int:
        """The number of classes in the sample."""
        return len({item.label for item in self.items})

    @property
    def groups(self) -> int:
        """The number of groups (persons, source videos) in the sample."""
        return len({item.group for item in self.items})

    @functools.cached_property
    def motions(self) -> tuple[float, ...]:
        """The motion of each clip, see `motion`."""
        return tuple(motion(clip) for clip in self.inputs)


@dataclass(frozen=True)
class _Candidate:
    clip: Clips
    item: VideoItem
    motion: float


def motion(clip: Clips) -> float:
    """Return the mean absolute difference of successive frames of an input `(1, 3, T, H, W)`; 0 for one frame."""
    return float(np.abs(np.diff(clip, axis=2)).mean()) if clip.shape[2] > 1 else 0.0


def video_inputs(item: VideoItem, clip: ClipSpec, info: VideoInfo) -> Iterator[Clips]:
    """Yield each non-overlapping window of a probed video as a network input, float32 `(1, 3, T, H, W)`.

    Raises VideoError if the video cannot be read.
    """
    for frames in read_clips(item.path, clip, window_starts(info.duration_s, clip)):
        yield preprocess(frames, clip)


def find_irregularities(info: VideoInfo, clip: ClipSpec) -> tuple[str, ...]:
    """Return the properties of a video that need special handling; empty for most videos."""
    checks = {
        "shorter than one clip, last frame repeated": info.duration_s < clip.duration_s - 0.5 / clip.fps,
        "damaged, its readable frames used": info.header_frames - info.frames > _MISSING_FRAMES,
        "rotated": info.rotation_degrees != 0,
        "variable frame rate": info.variable_rate,
        "time stamps repaired": info.repaired_stamps > 1,
    }
    return tuple(name for name, applies in checks.items() if applies)


def sample_clips(
    items: Sequence[VideoItem],
    clip: ClipSpec,
    count: int,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> ClipSample:
    """Sample up to `count` clips, one per video, stratified by class and, within a class, by motion and group.

    Twice as many clips are read if there are enough videos; of a class with a quota of two or more, the clips with
    least and with most motion are in the sample. The window within a video is drawn at random. The same arguments give
    the same clips, and every prefix of the sample is balanced over classes. Unreadable videos are counted and replaced
    by the next one. `on_progress(clips, expected)` is called after each clip. Raises CalibrationError if no clip can be
    read.
    """
    skipped: Counter[str] = Counter()
    candidates = []
    wanted = _CANDIDATES_PER_CLIP * count
    for candidate in itertools.islice(_readable(items, clip, seed, skipped), wanted):
        candidates.append(candidate)
        if on_progress:
            on_progress(len(candidates), min(wanted, len(items)))
    if not candidates:
        raise CalibrationError(f"none of {len(items)} videos could be read; expected at least one clip")
    quotas = Counter(candidate.item.label for candidate in candidates[:count])
    by_class = []
    for label, quota in sorted(quotas.items()):
        of_class = [candidate for candidate in candidates if candidate.item.label == label]
        by_class.append(_stratify_by_motion(of_class, quota))
    sample = _round_robin(by_class)
    return ClipSample(tuple(chosen.clip for chosen in sample), tuple(chosen.item for chosen in sample), dict(skipped))


def _readable(items: Sequence[VideoItem], clip: ClipSpec, seed: int, skipped: Counter[str]) -> Iterator[_Candidate]:
    """Yield one window of each readable video, in the order of `stratified_order`."""
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


def _stratify_by_motion(candidates: list[_Candidate], quota: int) -> list[_Candidate]:
    """Choose `quota` candidates of a class, in their order: one per stratum of motion, the two extremes included.

    Within a stratum, prefer the group with the fewest samples.
    """
    ranked = sorted(range(len(candidates)), key=lambda index: candidates[index].motion)
    chosen: list[int] = []
    groups: Counter[str] = Counter()
    strata = [list(map(int, stratum)) for stratum in np.array_split(ranked, quota)]
    if quota > 1:
        strata[0], strata[-1] = strata[0][:1], strata[-1][-1:]
    for stratum in sorted(strata, key=len):  # the extremes first: each is a stratum of a single clip
        index = min(stratum, key=lambda index: (groups[candidates[index].item.group], index))
        chosen.append(index)
        groups[candidates[index].item.group] += 1
    return [candidates[index] for index in sorted(chosen)]


def stratified_order(items: Sequence[VideoItem], seed: int = 0) -> Iterator[VideoItem]:
    """Return all items in an order whose every prefix is balanced over classes and, within a class, over groups."""
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
