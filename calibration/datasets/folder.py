"""Load a folder of class folders; its splits are drawn, given by folders, or read from `splits.csv`."""

from __future__ import annotations

import re
from pathlib import Path

from edgeact.calibration.datasets.base import VIDEO_SUFFIXES, Dataset, VideoItem
from edgeact.calibration.datasets.listing import (
    Listing,
    check_options,
    fraction_option,
    read_table,
    require_folder,
    split_off,
    whole_number_option,
)
from edgeact.errors import DatasetError, UsageError
from edgeact.progress import OnProgress, counted

__all__ = ["load_folder"]

_NAME = "folder"
_SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_Entry = tuple[str, VideoItem]
_NUMBERED = re.compile(r"(?P<group>.+?)[_-]\d+")


def load_folder(root: Path | None, options: dict[str, str], on_progress: OnProgress | None = None) -> Dataset:
    r"""Load 'folder:/path?val=0.15&test=0.15&group=regex&fold=0'.

    The videos are in `/path/<class>/`, or in `/path/{train,val,test}/<class>/`, which then are the splits.
    `/path/splits.csv` overrides both: columns path, cls or label, split or fold, and optionally group; fold number
    `fold` is the test split. Without any of these, whole groups are drawn for the splits, by the fractions `test` and
    `val`.

    The group of a video is the match of the first bracket of the regular expression `group` in the path below `/path`;
    else the group in `/path/groups.csv` (path, group); else the file name before its last number ('anna_01.mp4' is
    'anna'). Raises DatasetError if there are no classes or too few groups, or if a group is in two splits.
    """
    check_options(_NAME, options, ("fold", "group", "test", "val"))
    root = require_folder(_NAME, root, "one folder of videos per class")
    group_of = _GroupRule(root, options.get("group"))
    is_listed = (root / "splits.csv").is_file()
    splits = {path: _SPLIT_FOLDERS[path.name] for path in _folders(root) if path.name in _SPLIT_FOLDERS}
    if is_listed:
        fold = whole_number_option("fold", options, 0, range(0, 1000))
        labels, entries = _read_splits(root, group_of, fold)
    else:
        labels, entries = _walk(splits or {root: "train"}, root, group_of)
    listing = Listing()
    for split, item in counted(entries, on_progress):
        listing.add(split, item)
    val_fraction = fraction_option("val", options, 0.15)
    if not is_listed and not splits:
        split_off(listing, "train", "test", fraction_option("test", options, 0.15), keep=2 if val_fraction else 1)
    if "val" not in listing.splits:
        split_off(listing, "train", "val", val_fraction)
    return listing.dataset(_NAME, root, labels)


class _GroupRule:
    """Rule for the group of a video, given its path below the root."""

    def __init__(self, root: Path, pattern: str | None) -> None:
        try:
            self._pattern = re.compile(pattern) if pattern else None
        except re.error as error:
            raise UsageError(f"option group: '{pattern}' is not a regular expression: {error}") from None
        if self._pattern is not None and self._pattern.groups < 1:
            raise UsageError(f"option group: expected a bracket around the part that names the group, got '{pattern}'")
        listed = root / "groups.csv"
        rows = read_table(_NAME, listed, ("path", "group")) if listed.is_file() and pattern is None else []
        self._listed = {row["path"]: row["group"] for row in rows}

    def __call__(self, relative: str) -> str:
        if self._pattern is not None:
            match = self._pattern.search(relative)
            if match is None:
                raise DatasetError(f"{_NAME}: option group '{self._pattern.pattern}' matches nothing in '{relative}'")
            return match[1]
        if self._listed:
            if relative not in self._listed:
                raise DatasetError(f"{_NAME}: 'groups.csv' has no row for '{relative}'")
            return self._listed[relative]
        numbered = _NUMBERED.fullmatch(Path(relative).stem)
        return numbered["group"] if numbered else Path(relative).stem


def _walk(splits: dict[Path, str], root: Path, group_of: _GroupRule) -> tuple[tuple[str, ...], list[_Entry]]:
    """Return the labels, and each video under the folders of `splits` with its split."""
    labels = tuple(sorted({folder.name for base in splits for folder in _folders(base)}))
    if not labels:
        raise DatasetError(f"{_NAME}: expected one folder of videos per class in '{root}', found no folder")
    entries = [
        (split, VideoItem(path, labels.index(folder.name), group_of(path.relative_to(root).as_posix())))
        for base, split in splits.items()
        for folder in _folders(base)
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    ]
    return labels, entries


def _read_splits(root: Path, group_of: _GroupRule, fold: int) -> tuple[tuple[str, ...], list[_Entry]]:
    """Return the labels, and each row of `splits.csv` as a video with its split."""
    source = root / "splits.csv"
    rows = read_table(_NAME, source, ("path",))
    columns = set(rows[0]) if rows else set()
    label_column = "cls" if "cls" in columns else "label"
    split_column = "split" if "split" in columns else "fold"
    if not {label_column, split_column} <= columns:
        raise DatasetError(f"{_NAME}: '{source}': expected columns path, cls or label, split or fold; got {columns}")
    labels = tuple(sorted({row[label_column] for row in rows}))
    entries = []
    for row in rows:
        split = row[split_column]
        if split_column == "fold":
            split = "test" if split == str(fold) else "train"
        elif split not in _SPLIT_FOLDERS:
            raise DatasetError(f"{_NAME}: '{source}': expected split {', '.join(_SPLIT_FOLDERS)}, got '{split}'")
        group = row["group"] if "group" in columns else group_of(row["path"])
        item = VideoItem(root / row["path"], labels.index(row[label_column]), group)
        entries.append((_SPLIT_FOLDERS[split], item))
    return labels, entries


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
