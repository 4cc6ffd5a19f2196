"""Labeled video files, each with the group (person, source video) that must stay within one split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from edgeact.errors import DatasetError
from edgeact.progress import OnProgress, counted

__all__ = ["SPLIT_NAMES", "VIDEO_SUFFIXES", "Dataset", "VideoItem", "require_disjoint_groups"]

SPLIT_NAMES = ("train", "val", "test")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


@dataclass(frozen=True)
class VideoItem:
    """A video: its path, the index of its label, and the group it shares with videos of the same origin."""

    path: Path
    label: int
    group: str


@dataclass(frozen=True)
class Dataset:
    """Labels and splits of a data set.

    `splits` maps the available splits of 'train', 'val' and 'test', in this order, to their existing videos; `skipped`
    counts listed but unusable videos by reason. Raises DatasetError if a label index is out of range, if no video is
    usable, or if a group is in two splits.
    """

    name: str
    root: Path
    labels: tuple[str, ...]
    splits: Mapping[str, tuple[VideoItem, ...]]
    skipped: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = {name: self.splits[name] for name in SPLIT_NAMES if name in self.splits}
        object.__setattr__(self, "splits", MappingProxyType(ordered | dict(self.splits)))
        object.__setattr__(self, "skipped", MappingProxyType(dict(self.skipped)))
        if not any(self.splits.values()):
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items()) or "nothing listed"
            raise DatasetError(f"{self.name}: no usable video under '{self.root}' ({reasons})")
        for item in (item for items in self.splits.values() for item in items):
            if not 0 <= item.label < len(self.labels):
                raise DatasetError(
                    f"{self.name}: '{item.path}' has label {item.label}, expected 0..{len(self.labels) - 1}"
                )
        require_disjoint_groups(self.name, self.splits)

    def split(self, name: str) -> tuple[VideoItem, ...]:
        """Return the videos of a split; raises DatasetError if the data set has no such split."""
        if name not in self.splits:
            raise DatasetError(f"{self.name} has no split '{name}'; expected one of: {', '.join(sorted(self.splits))}")
        return self.splits[name]

    def gaps(self) -> tuple[str, ...]:
        """Return a sentence for each class that lacks videos in a split: "class 'wave' has no test video"."""
        return tuple(
            f"class '{self.labels[label]}' has no {split} video"
            for split, items in self.splits.items()
            for label in sorted(set(range(len(self.labels))) - {item.label for item in items})
        )

    def digest(self, split: str, on_progress: OnProgress | None = None) -> str:
        """Return the SHA-256 over the split's relative paths, labels and file contents, in the order of the paths.

        Reads every file; `on_progress(done, total)` counts files. The same files under another root have the same
        digest.
        """
        total = hashlib.sha256()
        for item in counted(sorted(self.split(split), key=lambda item: item.path.as_posix()), on_progress):
            inside = item.path.is_relative_to(self.root)
            relative = (item.path.relative_to(self.root) if inside else item.path).as_posix()
            total.update(f"{relative}\0{self.labels[item.label]}\0{_file_sha256(item.path)}\n".encode())
        return total.hexdigest()


def require_disjoint_groups(name: str, splits: Mapping[str, Iterable[VideoItem]]) -> None:
    """Raise DatasetError if groups of data set `name` are in more than one split."""
    splits_of: dict[str, set[str]] = {}
    for split, items in splits.items():
        for item in items:
            splits_of.setdefault(item.group, set()).add(split)
    leaking = sorted(group for group, names in splits_of.items() if len(names) > 1)
    if leaking:
        shown = ", ".join(f"'{group}' ({' + '.join(sorted(splits_of[group]))})" for group in leaking[:5])
        more = f" and {len(leaking) - 5} more" if len(leaking) > 5 else ""
        raise DatasetError(
            f"{name}: {len(leaking)} groups are in more than one split: {shown}{more}; "
            "keep the videos of a person or source in one split, or accuracy is measured on training data"
        )


def _file_sha256(path: Path) -> str:
    total = hashlib.sha256()
    try:
        with path.open("rb") as handle:
            while chunk := handle.read(1 << 20):
                total.update(chunk)
    except OSError as error:
        raise DatasetError(f"cannot read '{path}': {error.strerror or error}") from error
    return total.hexdigest()
