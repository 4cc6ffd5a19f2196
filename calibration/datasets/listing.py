"""Helpers of the loaders: options, list files, checks of video files, and splits that keep groups whole."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeact.calibration.datasets.base import Dataset, VideoItem
from edgeact.errors import DatasetError, MissingDatasetError, UsageError

__all__ = [
    "Listing",
    "check_options",
    "find_file",
    "fraction_option",
    "read_lines",
    "read_table",
    "require_folder",
    "split_off",
    "whole_number_option",
]


@dataclass
class Listing:
    """The videos of a data set by split, and the number of unusable videos by reason."""

    splits: dict[str, list[VideoItem]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, split: str, item: VideoItem) -> None:
        """Add `item` to `split` if its file exists and is not empty; otherwise count the item as skipped."""
        items = self.splits.setdefault(split, [])
        reason = _unusable(item.path)
        if reason is None:
            items.append(item)
        else:
            self.skipped[reason] += 1

    def dataset(self, name: str, root: Path, labels: tuple[str, ...]) -> Dataset:
        """Return the data set of all items; raises DatasetError if there are none or if a group is in two splits."""
        return Dataset(name, root, labels, {split: tuple(items) for split, items in self.splits.items()}, self.skipped)


def split_off(listing: Listing, source: str, target: str, fraction: float, keep: int = 1) -> None:
    """Move about `fraction` of each class's groups, at least one whole group, from split `source` to split `target`.

    A class keeps `keep` groups in `source` if it has more, else one. If no group can move without emptying a class of
    `source`, one group moves nevertheless. The choice depends on the names of the groups only, so that it is the same
    on every machine. Raises DatasetError if `source` would be empty.
    """
    items = listing.splits.get(source, [])
    groups = sorted({item.group for item in items}, key=lambda group: hashlib.sha256(group.encode()).digest())
    if fraction == 0.0 or not groups:
        return
    if max(1, round(fraction * len(groups))) >= len(groups):
        raise DatasetError(
            f"cannot split '{target}' ({fraction:g}) off the {len(items)} videos of '{source}': they form "
            f"{len(groups)} group(s), '{groups[0]}' among them; define other groups, or set a smaller fraction"
        )
    moved = _chosen(groups, items, fraction, keep) or {groups[0]}
    listing.splits[source] = [item for item in items if item.group not in moved]
    listing.splits.setdefault(target, []).extend(item for item in items if item.group in moved)


def _chosen(groups: Iterable[str], items: Iterable[VideoItem], fraction: float, keep: int) -> set[str]:
    """Choose groups, in their order, until each class has its fraction; each class keeps enough of them."""
    labels: dict[str, set[int]] = {}
    for item in items:
        labels.setdefault(item.group, set()).add(item.label)
    left = Counter(label for of_group in labels.values() for label in of_group)
    wanted = {label: max(1, round(fraction * count)) for label, count in left.items()}
    least = {label: keep if count > keep else 1 for label, count in left.items()}
    chosen: set[str] = set()
    for group in groups:
        of_group = labels[group]
        if all(left[label] > least[label] for label in of_group) and any(wanted[label] > 0 for label in of_group):
            chosen.add(group)
            left.subtract(of_group)
            for label in of_group:
                wanted[label] -= 1
    return chosen


def require_folder(name: str, root: Path | None, holds: str) -> Path:
    """Return `root`; raises DatasetError if it is None or no folder. `holds` names the expected content."""
    if root is None:
        raise DatasetError(f"{name} needs a path: '{name}:/path', a folder with {holds}")
    if not root.is_dir():
        raise MissingDatasetError(f"{name}: expected a folder with {holds}, but there is no folder '{root}'")
    return root


def find_file(name: str, root: Path, folders: Iterable[str], file: str) -> Path:
    """Return `file` in the first of `folders` under `root` that contains it; raises MissingDatasetError."""
    places = [root / folder / file for folder in folders]
    for place in places:
        if place.is_file():
            return place
    raise MissingDatasetError(f"{name}: expected '{file}' at one of: {', '.join(str(place) for place in places)}")


def read_lines(name: str, path: Path) -> list[str]:
    """Return the lines of a list file that are not blank; raises DatasetError if the file cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MissingDatasetError(f"{name}: expected the file '{path}', which does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{name}: cannot read '{path}' as text: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_table(name: str, path: Path, needed: Iterable[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header; raises DatasetError if columns `needed` or values are missing."""
    reader = csv.DictReader(read_lines(name, path), skipinitialspace=True)
    columns = reader.fieldnames or ()
    if missing := [column for column in needed if column not in columns]:
        raise DatasetError(f"{name}: '{path}': expected columns {', '.join(needed)}; missing: {', '.join(missing)}")
    rows: list[dict[str, str]] = []
    for row in reader:
        if None in row or None in row.values():
            raise DatasetError(f"{name}: '{path}': expected {len(columns)} values, got the row {list(row.values())}")
        rows.append(row)
    return rows


def check_options(name: str, options: Mapping[str, str], known: Iterable[str]) -> None:
    """Raise UsageError if data set `name` has options that are not among `known`."""
    known = sorted(known)
    if unknown := sorted(set(options) - set(known)):
        raise UsageError(f"{name} has no option {', '.join(unknown)}; expected options of: {', '.join(known)}")


def whole_number_option(name: str, options: Mapping[str, str], default: int, allowed: range) -> int:
    """Return option `name` as an integer; raises UsageError if it is not within `allowed`."""
    return int(_number(name, options, int, default, lambda value: value in allowed, f"{allowed[0]}..{allowed[-1]}"))


def fraction_option(name: str, options: Mapping[str, str], default: float) -> float:
    """Return option `name` as a number; raises UsageError if it is not in [0, 1)."""
    return _number(name, options, float, default, lambda value: 0.0 <= value < 1.0, "a fraction from 0 to below 1")


def _number(
    name: str,
    options: Mapping[str, str],
    parse: Callable[[str], float],
    default: float,
    fits: Callable[[float], bool],
    expected: str,
) -> float:
    try:
        value = parse(options[name]) if name in options else default
    except ValueError:
        value = float("nan")
    if not fits(value):
        raise UsageError(f"option {name}: expected {expected}, got '{options.get(name, default)}'")
    return value


def _unusable(path: Path) -> str | None:
    try:
        return "empty" if path.stat().st_size == 0 else None
    except OSError:
        return "missing"
