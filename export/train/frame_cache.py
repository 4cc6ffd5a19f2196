"""Prepared frames: every video of a split decoded and resized once, kept on disk, cut into training clips at will."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeact.calibration.datasets import VideoItem
from edgeact.clip import ClipSpec
from edgeact.errors import DatasetError, VideoError
from edgeact.progress import OnProgress
from edgeact.storage import atomic_write, cache_folder
from edgeact.video import probe_video, read_clips, resize_frame

__all__ = ["PreparedVideos", "prepare"]

Frames = npt.NDArray[np.uint8]

_WORKERS = 2
# Frames are kept at this many times the clip's rate, so that clips can start between its frames.
_OVERSAMPLE = 3


@dataclass(frozen=True)
class PreparedVideos:
    """Memory-mapped uint8 RGB frames `(F, h, w, 3)` of each video, resized to `clip.resize`, with labels.

    They lie `1 / (3 x clip.fps)` s apart, from 0 to just past the end. `skipped` counts by reason the videos left out.
    """

    clip: ClipSpec
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)

    def cut(self, index: int, phase: float) -> Frames:
        """One clip of video `index`, uint8 RGB `(T, h, w, 3)`, a new array.

        `phase` in [0, 1] places its start between the earliest and the latest possible; a video shorter than the
        clip repeats its last frame. At phase 0 these are the frames that `edgeact.video.read_clips` gives for 0 s.
        """
        frames = np.load(self.files[index], mmap_mode="r")
        span = (self.clip.clip_frames - 1) * _OVERSAMPLE
        start = round(phase * max(len(frames) - 1 - span, 0))
        wanted = np.minimum(start + np.arange(self.clip.clip_frames) * _OVERSAMPLE, len(frames) - 1)
        return np.array(frames[wanted])

    def sampled_sha256(self) -> str:
        """Digest of the middle frame of every video, its length with it: other videos have another one."""
        digest = hashlib.sha256()
        for file in self.files:
            frames = np.load(file, mmap_mode="r")
            digest.update(str(frames.shape).encode() + frames[len(frames) // 2].tobytes())
        return digest.hexdigest()


def prepare(items: Sequence[VideoItem], clip: ClipSpec, on_progress: OnProgress | None = None) -> PreparedVideos:
    """Decode and resize `items` into the user's cache, or find them there; a changed file is decoded again.

    `on_progress(done, total)` is called after every video. A video that cannot be decoded is left out and counted in
    `skipped`; DatasetError where none is left.
    """
    folder = cache_folder() / "frames"
    skipped: Counter[str] = Counter()
    files: list[Path] = []
    labels: list[int] = []
    with ThreadPoolExecutor(_WORKERS) as pool, _cancelled_on_error(pool):
        results = pool.map(lambda item: _prepared_file(item.path, clip, folder), items)
        for done, (item, result) in enumerate(zip(items, results, strict=True), start=1):
            if isinstance(result, Path):
                files.append(result)
                labels.append(item.label)
            else:
                skipped[result] += 1
            if on_progress:
                on_progress(done, len(items))
    if not files:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise DatasetError(f"none of {len(items)} videos could be decoded ({reasons}); check the data set's path")
    return PreparedVideos(clip, tuple(files), tuple(labels), dict(skipped))


@contextlib.contextmanager
def _cancelled_on_error(pool: ThreadPoolExecutor) -> Iterator[None]:
    """Leave at once when interrupted, instead of after every video still waiting."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _prepared_file(path: Path, clip: ClipSpec, folder: Path) -> Path | str:
    """The cached frames of one video, or the reason why there are none."""
    try:
        stat = path.stat()
        contract = (clip.fps, _OVERSAMPLE, clip.resize, clip.interpolation)
        key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{contract}"
        target = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
        if not target.exists():
            frames = _decode(path, clip)
            with atomic_write(target) as handle:
                np.save(handle, frames)
        return target
    except VideoError:
        return "unreadable"
    except FileNotFoundError:
        return "missing"


def _decode(path: Path, clip: ClipSpec) -> Frames:
    rate = clip.fps * _OVERSAMPLE
    count = math.ceil(probe_video(path).duration_s * rate) + 1  # so that the video's last frame is among them
    dense = clip.model_copy(update={"clip_frames": count, "fps": rate})
    (frames,) = read_clips(path, dense, (0.0,))
    return np.stack([resize_frame(frame, clip) for frame in frames])
