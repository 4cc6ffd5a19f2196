"""Cache of decoded frames: each video of a split is decoded and resized once, then clips are read from disk."""

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
# Frames are stored at a multiple of the clip's frame rate, so that clips can start between the clip's frames.
_OVERSAMPLE = 3


@dataclass(frozen=True)
class PreparedVideos:
    """Decoded videos with their labels, read from disk by memory mapping."""

    clip: ClipSpec
    files: tuple[Path, ...]
    """Frames of each video, uint8 RGB `(F, h, w, 3)`, resized to `clip.resize`, `1 / (3 * clip.fps)` s apart from 0 s
    to just past the end."""
    labels: tuple[int, ...]
    """Class of each video."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Number of videos that could not be decoded, by reason."""

    def __len__(self) -> int:
        return len(self.files)

    def cut(self, index: int, phase: float) -> Frames:
        """Return one clip of video `index`, uint8 RGB `(T, h, w, 3)`, in a new array.

        `phase` within [0, 1] interpolates the start between the earliest and the latest possible; the last frame of a
        video shorter than the clip is repeated. Phase 0 gives the frames of `edgeact.video.read_clips` for 0 s.
        """
        frames = np.load(self.files[index], mmap_mode="r")
        span = (self.clip.clip_frames - 1) * _OVERSAMPLE
        start = round(phase * max(len(frames) - 1 - span, 0))
        indices = np.minimum(start + np.arange(self.clip.clip_frames) * _OVERSAMPLE, len(frames) - 1)
        return np.array(frames[indices])

    def sampled_sha256(self) -> str:
        """Return the SHA-256 of the shapes and middle frames of all videos, which identifies them."""
        digest = hashlib.sha256()
        for file in self.files:
            frames = np.load(file, mmap_mode="r")
            digest.update(str(frames.shape).encode() + frames[len(frames) // 2].tobytes())
        return digest.hexdigest()


def prepare(items: Sequence[VideoItem], clip: ClipSpec, on_progress: OnProgress | None = None) -> PreparedVideos:
    """Decode and resize `items` into the user's cache, unless they are there; a changed file is decoded again.

    `on_progress(done, total)` is called after every video. A video that cannot be decoded is left out and counted in
    `skipped`. Raises DatasetError if no video is left.
    """
    folder = cache_folder() / "frames"
    skipped: Counter[str] = Counter()
    files: list[Path] = []
    labels: list[int] = []
    with ThreadPoolExecutor(_WORKERS) as pool, _cancelled_on_error(pool):
        results = pool.map(lambda item: _decode_to_cache(item.path, clip, folder), items)
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
    """Cancel the waiting videos on an error or interrupt, instead of decoding them all before it is raised."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _decode_to_cache(path: Path, clip: ClipSpec, folder: Path) -> Path | str:
    """Return the file with the frames of one video, or the reason why there is none."""
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
    count = math.ceil(probe_video(path).duration_s * rate) + 1  # includes the video's last frame
    dense = clip.model_copy(update={"clip_frames": count, "fps": rate})
    (frames,) = read_clips(path, dense, (0.0,))
    return np.stack([resize_frame(frame, clip) for frame in frames])
