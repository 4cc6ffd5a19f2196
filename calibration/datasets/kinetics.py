"""Load Kinetics and other data sets given as lists: the official CSV, or 'path,label' and 'path label' lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeact.calibration.datasets.base import Dataset, VideoItem
from edgeact.calibration.datasets.listing import Listing, check_options, read_lines, read_table
from edgeact.errors import DatasetError, MissingDatasetError, UsageError
from edgeact.progress import OnProgress, counted

__all__ = ["load_kinetics"]

_NAME = "kinetics"
_SPLIT_OF_NAME = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
}
_CLIP_NAME = re.compile(r"(?P<id>.+)_\d{6}_\d{6}")
_OFFICIAL = ("label", "youtube_id", "time_start", "time_end")


@dataclass(frozen=True)
class _Row:
    split: str
    """A key of _SPLIT_OF_NAME."""
    file: str
    label: str
    group: str
    official: bool


def load_kinetics(root: Path | None, options: dict[str, str], on_progress: OnProgress | None = None) -> Dataset:
    """Load 'kinetics:/path/val.csv?videos=/path/to/videos&labels=/path/to/labels.txt&split=val'.

    The path is a list, or a folder whose `train.csv`, `val.csv` ... are read together. An official list has the
    columns label, youtube_id, time_start, time_end and optionally split; its videos are
    `<id>_<start, 6 digits>_<end, 6 digits>.mp4`, in the folder `videos` (default: the folder of the list) or in its
    folders of split and class. Other lists have 'path,label' or 'path label' lines; their labels are names, or indices
    into the lines of the file `labels`. A list without a split column belongs to the split given by the option `split`
    or by the file name, else to 'test'. A group is a YouTube video.
    Raises DatasetError if a list is missing or malformed, or if a YouTube video is in two splits.
    """
    check_options(_NAME, options, ("labels", "split", "videos"))
    lists = _find_lists(root)
    videos = Path(options["videos"]).expanduser() if "videos" in options else lists[0].parent
    if not videos.is_dir():
        raise MissingDatasetError(f"{_NAME}: expected a folder of videos at '{videos}', which does not exist")
    listing = Listing()
    rows = [row for source in lists for row in _rows(source, options.get("split"))]
    labels = _labels(options.get("labels"), [row.label for row in rows])
    for row in counted(rows, on_progress):
        if row.label:
            item = VideoItem(_place(videos, row), _index(labels, row.label), row.group)
            listing.add(_SPLIT_OF_NAME[row.split], item)
        else:
            listing.skipped["unlabelled"] += 1
    return listing.dataset(_NAME, videos, labels)


def _find_lists(root: Path | None) -> list[Path]:
    if root is None:
        raise DatasetError(f"{_NAME} needs a path: '{_NAME}:/path/list.csv', or a folder with train.csv, val.csv ...")
    if not root.is_dir():
        return [root]
    lists = [path for path in sorted(root.glob("*.csv")) if path.stem in _SPLIT_OF_NAME]
    if not lists:
        names = ", ".join(f"{name}.csv" for name in _SPLIT_OF_NAME)
        raise DatasetError(f"{_NAME}: expected one of {names} in '{root}'")
    return lists


def _rows(source: Path, split: str | None) -> Iterator[_Row]:
    if split is not None and split not in _SPLIT_OF_NAME:
        raise UsageError(f"option split: expected one of {', '.join(_SPLIT_OF_NAME)}, got '{split}'")
    lines = read_lines(_NAME, source)
    fallback = _SPLIT_OF_NAME[split or next((name for name in _words(source.stem) if name in _SPLIT_OF_NAME), "test")]
    if lines and "youtube_id" in lines[0]:
        return (_official_row(source, row, fallback) for row in read_table(_NAME, source, _OFFICIAL[1:]))
    header = lines[:1] if lines and re.fullmatch(r"path[,\s]\s*label", lines[0]) else []
    return (_plain_row(source, line, fallback) for line in lines[len(header) :])


def _official_row(source: Path, row: dict[str, str], fallback: str) -> _Row:
    try:
        start, end = (int(float(row[column])) for column in _OFFICIAL[2:])
    except ValueError:
        raise DatasetError(f"{_NAME}: '{source}': expected times in seconds, got {row}") from None
    split = row.get("split", "") or fallback
    if split not in _SPLIT_OF_NAME:
        raise DatasetError(f"{_NAME}: '{source}': expected a split of {', '.join(_SPLIT_OF_NAME)}, got '{split}'")
    file = f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"
    return _Row(split, file, row.get("label", ""), row["youtube_id"], official=True)


def _plain_row(source: Path, line: str, split: str) -> _Row:
    values = next(csv.reader([line])) if "," in line else line.rsplit(maxsplit=1)
    if len(values) != 2 or not all(value.strip() for value in values):
        raise DatasetError(f"{_NAME}: '{source}': expected 'path,label' or 'path label', got '{line}'")
    path, label = (value.strip() for value in values)
    clip = _CLIP_NAME.fullmatch(Path(path).stem)
    return _Row(split, path, label, clip["id"] if clip else Path(path).stem, official=False)


def _place(videos: Path, row: _Row) -> Path:
    """Return the path of the video; official lists do not say in which folder the videos are."""
    if not row.official:
        return videos / row.file
    plain, joined = row.label, row.label.replace(" ", "_")
    folders = ("", plain, joined, row.split, f"{row.split}/{plain}", f"{row.split}/{joined}")
    places = (videos / folder / row.file for folder in folders)
    return next((place for place in places if place.is_file()), videos / row.file)


def _labels(file: str | None, listed: list[str]) -> tuple[str, ...]:
    if file is not None:
        return tuple(read_lines(_NAME, Path(file).expanduser()))
    names = {label for label in listed if label}
    if names and all(name.isdecimal() for name in names):
        return tuple(str(number) for number in range(max(map(int, names)) + 1))
    return tuple(sorted(names))


def _index(labels: tuple[str, ...], label: str) -> int:
    if label in labels:
        return labels.index(label)
    if label.isdecimal() and int(label) < len(labels):
        return int(label)
    raise DatasetError(f"{_NAME}: label '{label}' is not among the {len(labels)} labels of the file 'labels'")


def _words(stem: str) -> list[str]:
    return re.split(r"[^a-z]+", stem.lower())
