"""Load UCF-101 as published: `classInd.txt`, `trainlist0N.txt`, `testlist0N.txt`, and the videos in class folders."""

from __future__ import annotations

import re
from pathlib import Path

from edgeact.calibration.datasets.base import Dataset, VideoItem
from edgeact.calibration.datasets.listing import (
    Listing,
    check_options,
    find_file,
    fraction_option,
    read_lines,
    require_folder,
    split_off,
    whole_number_option,
)
from edgeact.errors import DatasetError
from edgeact.progress import OnProgress, counted

__all__ = ["load_ucf101"]

_NAME = "ucf101"
_LIST_FOLDERS = ("", "ucfTrainTestlist", "splits")
_VIDEO_FOLDERS = ("", "UCF-101", "videos")
_VIDEO_NAME = re.compile(r"v_(?P<label>\w+)_(?P<group>g\d+)_c\d+\.\w+")


def load_ucf101(root: Path | None, options: dict[str, str], on_progress: OnProgress | None = None) -> Dataset:
    """Load 'ucf101:/path?split=1&val=0.1': the official train and test lists of split 1, 2 or 3.

    The lists are in `/path` or `/path/ucfTrainTestlist`, the class folders in `/path` or `/path/UCF-101`. A group is
    a `gXX` of a class. `val` is the fraction of the training groups that becomes the validation split.
    Raises DatasetError if a list is missing or does not follow the official format.
    """
    check_options(_NAME, options, ("split", "val"))
    number = whole_number_option("split", options, 1, range(1, 4))
    fraction = fraction_option("val", options, 0.1)
    holds = "classInd.txt, trainlist0N.txt, testlist0N.txt and the class folders"
    root = require_folder(_NAME, root, holds)
    index = find_file(_NAME, root, _LIST_FOLDERS, "classInd.txt")
    labels = _read_classes(index)
    listing = Listing()
    lists = {split: index.parent / f"{split}list{number:02d}.txt" for split in ("train", "test")}
    lines = [(split, line) for split, path in lists.items() for line in read_lines(_NAME, path)]
    for split, line in counted(lines, on_progress):
        listing.add(split, _item(root, lists[split], line, labels))
    split_off(listing, "train", "val", fraction)
    return listing.dataset(_NAME, root, labels)


def _read_classes(path: Path) -> tuple[str, ...]:
    labels: list[str] = []
    for line in read_lines(_NAME, path):
        number, _, label = line.partition(" ")
        if not label or number != str(len(labels) + 1):
            raise DatasetError(f"{_NAME}: '{path}': expected '{len(labels) + 1} ClassName', got '{line}'")
        labels.append(label.strip())
    return tuple(labels)


def _item(root: Path, source: Path, line: str, labels: tuple[str, ...]) -> VideoItem:
    """Parse a line 'Class/v_Class_gXX_cYY.avi', in training lists followed by the number of the class."""
    place, _, number = line.partition(" ")
    label = place.partition("/")[0]
    name = _VIDEO_NAME.fullmatch(place.rpartition("/")[2])
    if name is None or label not in labels:
        raise DatasetError(f"{_NAME}: '{source}': expected 'Class/v_Class_gXX_cYY.avi' of a known class, got '{line}'")
    position = labels.index(label)
    if number and number.strip() != str(position + 1):
        raise DatasetError(
            f"{_NAME}: '{source}': class '{label}' is number {position + 1} in classInd.txt, got '{line}'"
        )
    path = next((root / folder / place for folder in _VIDEO_FOLDERS if (root / folder / place).is_file()), root / place)
    return VideoItem(path, position, f"{label}/{name['group']}")
