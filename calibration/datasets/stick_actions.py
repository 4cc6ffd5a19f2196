"""stick-actions: a rendered data set in which only the order of the frames distinguishes the classes.

Twelve actions of articulated figures form six pairs; the classes of a pair are exact time reversals of each other. A
clip is rendered forward and, for the reverse class, its frames are reversed; all other properties are drawn
independently of the class. So every frame, every set of frames and every background is equally likely in both classes
of a pair. This is exact for whole videos and, to within a frame, for windows around the center of a video. A window
that starts at 0 ends up to 0.2 s before the video does, and so contains slightly more of the beginning; a frame whose
time is known does distinguish the classes, unless it is the center frame.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Executor, as_completed
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path

import numpy as np

from edgeact.calibration.datasets import figure, motions, scene
from edgeact.calibration.datasets.base import Dataset, VideoItem
from edgeact.calibration.datasets.figure import Floats, Image
from edgeact.errors import DatasetError, UsageError
from edgeact.progress import OnProgress
from edgeact.storage import cache_folder, write_text
from edgeact.video import write_video

__all__ = [
    "LABELS",
    "MARKER",
    "SPLITS",
    "RenderedClip",
    "StickActionsConfig",
    "default_root",
    "generate_stick_actions",
    "load_stick_actions",
    "render_clip",
]

LABELS = motions.LABELS
SPLITS = ("train", "val", "test")
MARKER = "stick-actions.json"

_RENDERER = 1  # version of the pixels: increase with every change of the rendering
_SHORTEST_S = 4 / 3  # a clip of 8 frames at 6 frames per second, or of 16 at 12
_REST_S = (0.05, 0.28)
_CHUNK = 24


@dataclass(frozen=True)
class StickActionsConfig:
    """Number of clips per split, size (width, height) in pixels, seed, and number of persons per split.

    Clip `index` of a split depends on the seed, the size and the persons only, so that a larger split begins with the
    clips of a smaller split. Raises UsageError if a value is out of range.
    """

    train: int = 3000
    val: int = 300
    test: int = 2000
    seed: int = 0
    size: tuple[int, int] = (160, 120)
    persons: tuple[int, int, int] = (60, 12, 40)

    def __post_init__(self) -> None:
        if min(self.train, self.val, self.test) < 0 or self.train + self.val + self.test == 0:
            raise UsageError(f"stick-actions: expected clips, got train={self.train}, val={self.val}, test={self.test}")
        if self.seed < 0 or len(self.persons) != len(SPLITS) or min(self.persons) < 1:
            raise UsageError(
                f"stick-actions: expected seed >= 0 and three persons >= 1, got {self.seed}, {self.persons}"
            )
        if len(self.size) != 2 or min(self.size) < 32 or max(self.size) > 1024 or any(side % 2 for side in self.size):
            raise UsageError(f"stick-actions: expected size (width, height), even, 32..1024 pixels, got {self.size}")

    def count(self, split: str) -> int:
        """Return the number of clips of `split`."""
        return (self.train, self.val, self.test)[SPLITS.index(split)]

    def person(self, split: str, index: int) -> int:
        """Return the number of the person in clip `index`; no person is in two splits."""
        place = SPLITS.index(split)
        return sum(self.persons[:place]) + (index // len(LABELS)) % self.persons[place]

    def digest(self) -> str:
        """Return the SHA-256 of everything that the frames depend on."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()

    def as_json(self) -> dict[str, object]:
        """Return the configuration in the form of the marker file."""
        return {**asdict(self), "size": list(self.size), "persons": list(self.persons), "renderer": _RENDERER}


@dataclass(frozen=True)
class RenderedClip:
    """Frames uint8 RGB (T, H, W, 3), owned by the caller, their rate, the index of the label, and the person."""

    frames: Image
    fps: float
    label: int
    person: str


def render_clip(config: StickActionsConfig, split: str, index: int, *, opposite: bool = False) -> RenderedClip:
    """Render clip `index` of `split` in memory; the same arguments give the same bytes.

    The label is `index % 12`; `opposite` renders the other class of its pair instead, in the same scene, which gives
    the same frames in reverse order. Raises UsageError for an unknown split or a negative index.
    """
    if split not in SPLITS or index < 0:
        raise UsageError(f"expected a split of {SPLITS} and an index >= 0, got '{split}', {index}")
    label = index % len(LABELS) ^ int(opposite)
    frames, fps = _render(config, split, index, motions.MOTIONS[label // 2], reverse=label % 2 == 1)
    return RenderedClip(frames, fps, label, _person_name(config.person(split, index)))


def generate_stick_actions(
    root: Path,
    config: StickActionsConfig,
    on_progress: OnProgress | None = None,
    executor: Executor | None = None,
) -> Dataset:
    """Write `<root>/<split>/<label>/<person>_<index>.mp4` and return the data set; existing videos are kept.

    `on_progress(done, total)` is called after every few clips. `executor` renders in other threads or processes.
    The marker file says `complete` only when every video exists, so that an interrupted run is resumed.
    Raises DatasetError if `root` holds another configuration, StorageError if a file cannot be written.
    """
    complete = _read_marker(root, config)
    if complete is None:
        _write_marker(root, config, complete=False)
    missing = [(split, index) for split, index in _clips(config) if not _path(root, config, split, index).is_file()]
    chunks = [missing[start : start + _CHUNK] for start in range(0, len(missing), _CHUNK)]
    done, total = 0, len(missing)
    for written in _write_chunks(root, config, chunks, executor):
        done += written
        if on_progress is not None:
            on_progress(done, total)
    if not complete:
        _write_marker(root, config, complete=True)
    return _dataset(root, config)


def load_stick_actions(root: Path | None, options: dict[str, str], on_progress: OnProgress | None = None) -> Dataset:
    """Load 'stick-actions:/path?train=3000&val=300&test=2000&seed=0', rendered on first use.

    Other options: `size=160x120`, `persons=60x12x40`. Without a path the data set is in the user's cache.
    """
    known = {"train", "val", "test", "seed", "size", "persons"}
    if unknown := sorted(set(options) - known):
        raise UsageError(
            f"stick-actions has no option {', '.join(unknown)}; expected options of: {', '.join(sorted(known))}"
        )
    numbers = {name: _whole_numbers(name, text) for name, text in options.items()}
    values: dict[str, object] = {
        name: tuple(value) if name in ("size", "persons") else _single(name, value) for name, value in numbers.items()
    }
    config = StickActionsConfig(**values)  # type: ignore[arg-type]
    return generate_stick_actions(root if root is not None else default_root(config), config, on_progress)


def default_root(config: StickActionsConfig) -> Path:
    """Return the folder of a data set without a path, in the user's cache: see `cache_folder`."""
    return cache_folder() / "datasets" / f"stick-actions-{config.digest()[:12]}"


def _render(
    config: StickActionsConfig, split: str, index: int, motion: motions.Motion, *, reverse: bool
) -> tuple[Image, float]:
    """Return the frames of a clip and their rate; `reverse` reverses the rendered frames and changes nothing else."""
    person, width = config.person(split, index), config.size[0]
    body = figure.random_body(np.random.default_rng((config.seed, 1, person)))
    rng = np.random.default_rng((config.seed, 2, SPLITS.index(split), index))
    fps = int(rng.integers(20, 31))
    count = ceil(_SHORTEST_S * fps) + int(rng.integers(0, 2))
    times_s = np.arange(count) / fps
    place = scene.random_scene(rng, *config.size)
    camera = scene.random_camera(rng, width, place.ground_y, times_s, reach=motion.reach)
    spread = min(1.0, motion.spread + rng.uniform(0.0, 0.15))
    phase = _phase(rng, times_s)
    # In a mirror walking left is walking right: such a clip is reversed, so that its label stays correct.
    flipped = camera.mirror and motion.mirror_reverses
    outlines, colors = _figure(motion, body, phase, spread, place, camera)
    grain = np.random.default_rng((config.seed, 3, SPLITS.index(split), index))
    frames = np.empty((count, config.size[1], width, 3), np.uint8)
    for number in range(count):
        frame = place.background(camera.path[number], times_s[number])
        figure.draw(frame, outlines[number], colors)
        frames[number] = place.expose(frame, grain)
    return (np.ascontiguousarray(frames[::-1]) if reverse != flipped else frames), float(fps)


def _phase(rng: np.random.Generator, times_s: Floats) -> Floats:
    """Return the phase (T,) from 0 to 1 between two rests of the same distribution, so that both ends are alike."""
    before, after = rng.uniform(*_REST_S, size=2)
    phase: Floats = np.clip((times_s - before) / (times_s[-1] - before - after), 0.0, 1.0)
    return phase


def _figure(
    motion: motions.Motion, body: figure.Body, phase: Floats, spread: float, place: scene.Scene, camera: scene.Camera
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int32]], tuple[figure.Color, ...]]:
    placed = motions.place_on_ground(motion, body, phase, spread)
    limbs = figure.limbs(body, placed, spread)
    if motion.has_seat:
        limbs = figure.with_seat(limbs, motions.place_on_ground(motion, body, np.ones(1), spread)["hip"][0], body)
    origin = np.array([camera.center_x, place.ground_y]) - camera.path
    return figure.outlines(limbs, camera.scale_px, origin, camera.mirror), limbs.colors


def _clips(config: StickActionsConfig) -> Iterator[tuple[str, int]]:
    return ((split, index) for split in SPLITS for index in range(config.count(split)))


def _write_chunks(
    root: Path, config: StickActionsConfig, chunks: list[list[tuple[str, int]]], executor: Executor | None
) -> Iterator[int]:
    if executor is None:
        yield from (_write_clips(root, config, chunk) for chunk in chunks)
        return
    futures = [executor.submit(_write_clips, root, config, chunk) for chunk in chunks]
    try:
        yield from (future.result() for future in as_completed(futures))
    finally:
        for future in futures:
            future.cancel()


def _write_clips(root: Path, config: StickActionsConfig, clips: list[tuple[str, int]]) -> int:
    for split, index in clips:
        clip = render_clip(config, split, index)
        write_video(_path(root, config, split, index), clip.frames, clip.fps)
    return len(clips)


def _path(root: Path, config: StickActionsConfig, split: str, index: int) -> Path:
    name = f"{_person_name(config.person(split, index))}_{index:06d}.mp4"
    return root / split / LABELS[index % len(LABELS)] / name


def _person_name(number: int) -> str:
    return f"person{number:03d}"


def _dataset(root: Path, config: StickActionsConfig) -> Dataset:
    splits = {
        split: tuple(
            VideoItem(_path(root, config, split, index), index % len(LABELS), _person_name(config.person(split, index)))
            for index in range(config.count(split))
        )
        for split in SPLITS
        if config.count(split)
    }
    return Dataset("stick-actions", root, LABELS, splits)


def _read_marker(root: Path, config: StickActionsConfig) -> bool | None:
    """Return whether `root` is complete, or None if there is no marker yet."""
    path = root / MARKER
    if not path.is_file():
        return None
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
        same, complete = marker["digest"] == config.digest(), marker["complete"] is True
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"'{path}' is not the marker of a stick-actions folder ({error}); choose another folder"
        ) from error
    if not same:
        raise DatasetError(
            f"'{root}' holds stick-actions of another configuration: expected {config.as_json()}, "
            f"got {marker.get('config')}; choose another folder or delete this one"
        )
    return complete


def _write_marker(root: Path, config: StickActionsConfig, *, complete: bool) -> None:
    marker = {"complete": complete, "digest": config.digest(), "config": config.as_json(), "labels": list(LABELS)}
    write_text(root / MARKER, json.dumps(marker, indent=2) + "\n")


def _whole_numbers(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split("x")]
    except ValueError:
        raise UsageError(f"stick-actions option {name}: expected an integer (or 'AxB'), got '{text}'") from None


def _single(name: str, value: list[int]) -> int:
    if len(value) != 1:
        raise UsageError(f"stick-actions option {name}: expected one number, got {len(value)}")
    return value[0]
