"""Load HMDB-51 as published: a list `<class>_test_split<N>.txt` per class, and the videos in class folders."""

from __future__ import annotations

import re
from pathlib import Path

from edgeact.calibration.datasets.base import Dataset, VideoItem
from edgeact.calibration.datasets.listing import (
    Listing,
    check_options,
    fraction_option,
    read_lines,
    require_folder,
    split_off,
    whole_number_option,
)
from edgeact.errors import DatasetError
from edgeact.progress import OnProgress, counted

__all__ = ["load_hmdb51"]

_NAME = "hmdb51"
_LIST_FOLDERS = ("", "testTrainMulti_7030_splits", "test_train_splits", "splits")
_VIDEO_FOLDERS = ("", "hmdb51_org", "videos")
_UNUSED = "0"
_SPLITS = {"1": "train", "2": "test"}
# Visible body parts, camera motion, number of people, camera direction, quality, number of the clip.
_ATTRIBUTES = re.compile(r"_[fhlu]_(?:cm|nm)_np\d+_(?:ba|fr|le|ri)_(?:bad|goo|med)_\d+$")


def load_hmdb51(root: Path | None, options: dict[str, str], on_progress: OnProgress | None = None) -> Dataset:
    """Load 'hmdb51:/path?split=1&val=0.1': the official split 1, 2 or 3.

    The lists are in `/path` or `/path/testTrainMulti_7030_splits`, the class folders in `/path` or
    `/path/hmdb51_org`. A group is a source video within a class, which the official splits keep together; a training
    video whose group is in the test list nevertheless is skipped and counted, so that the test split stays the official
    split. `val` is the fraction of the training groups that becomes the validation split.
    Raises DatasetError if no list is found or if a list does not follow the official format.
    """
    check_options(_NAME, options, ("split", "val"))
    number = whole_number_option("split", options, 1, range(1, 4))
    fraction = fraction_option("val", options, 0.1)
    root = require_folder(_NAME, root, f"'<class>_test_split{number}.txt' lists and the class folders")
    lists = _find_lists(root, number)
    labels = tuple(sorted(lists))
    listing = Listing()
    lines = [(index, line) for index, label in enumerate(labels) for line in read_lines(_NAME, lists[label])]
    for index, line in counted(lines, on_progress):
        _add(listing, root, lists[labels[index]], line, labels, index)
    tested = {item.group for item in listing.splits.get("test", [])}
    kept = [item for item in listing.splits.get("train", []) if item.group not in tested]
    if leaking := len(listing.splits.get("train", [])) - len(kept):
        listing.skipped["training videos of a test group"] = leaking
        listing.splits["train"] = kept
    split_off(listing, "train", "val", fraction)
    return listing.dataset(_NAME, root, labels)


def _find_lists(root: Path, number: int) -> dict[str, Path]:
    ending = f"_test_split{number}.txt"
    for folder in _LIST_FOLDERS:
        lists = {path.name.removesuffix(ending): path for path in (root / folder).glob(f"*{ending}")}
        if lists:
            return lists
    places = ", ".join(str(root / folder) for folder in _LIST_FOLDERS)
    raise DatasetError(f"{_NAME}: expected '<class>{ending}' lists in one of: {places}")


def _add(listing: Listing, root: Path, source: Path, line: str, labels: tuple[str, ...], index: int) -> None:
    """Add a line of the list `source`, the list of class `index`, to `listing`."""
    name, _, mark = line.rpartition(" ")
    if mark not in (_UNUSED, *_SPLITS) or not name:
        raise DatasetError(f"{_NAME}: '{source}': expected 'name.avi 0', '1' or '2', got '{line}'")
    if mark != _UNUSED:
        label = labels[index]
        places = (root / folder / label / name for folder in _VIDEO_FOLDERS)
        path = next((place for place in places if place.is_file()), root / label / name)
        listing.add(_SPLITS[mark], VideoItem(path, index, f"{label}/{_source_of(name, label)}"))


def _source_of(name: str, label: str) -> str:
    return _ATTRIBUTES.sub("", name.rpartition(".")[0]).removesuffix(f"_{label}")
