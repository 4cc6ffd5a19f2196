"""What the loaders share: options, list files, the look at a file, and splits that keep groups whole."""

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
    """Collects the videos of a data set split by split, and counts by reason those that cannot be used."""

    splits: dict[str, list[VideoItem]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, split: str, item: VideoItem) -> None:
        """Take `item` into `split` where its file exists and holds something; count it otherwise."""
        items = self.splits.setdefault(split, [])
        reason = _unusable(item.path)
        if reason is None:
            items.append(item)
        else:
            self.skipped[reason] += 1

    def dataset(self, name: str, root: Path, labels: tuple[str, ...]) -> Dataset:
        """The data set of all that was added; DatasetError where that is nothing or a group is torn apart."""
        return Dataset(name, root, labels, {split: tuple(items) for split, items in self.splits.items()}, self.skipped)


def split_off(listing: Listing, source: str, target: str, fraction: float, keep: int = 1) -> None:
    """Move about `fraction` of each class's groups of split `source`, whole and at least one, to split `target`.

    A class keeps `keep` groups in `source` where it has more, else one; only where no group can go at all without
    emptying a class of `source`, one class loses its videos to `target`. Which groups go depends on their names only,
    so it is the same on every machine. DatasetError where that would leave `source` empty.
    """
    items = listing.splits.get(source, [])
    groups = sorted({item.group for item in items}, key=lambda group: hashlib.sha256(group.encode()).digest())
    if fraction == 0.0 or not groups:
        return
    if max(1, round(fraction * len(groups))) >= len(groups):
        raise DatasetError(
            f"cannot take '{target}' ({fraction:g}) out of the {len(items)} videos of '{source}': they form "
            f"{len(groups)} group(s), '{groups[0]}' among them; say what a group is, or ask for a smaller share"
        )
    moved = _chosen(groups, items, fraction, keep) or {groups[0]}
    listing.splits[source] = [item for item in items if item.group not in moved]
    listing.splits.setdefault(target, []).extend(item for item in items if item.group in moved)


def _chosen(groups: Iterable[str], items: Iterable[VideoItem], fraction: float, keep: int) -> set[str]:
    """Those of `groups`, in their order, that bring every class its share and leave every class enough."""
    labels: dict[str, set[int]] = {}
    for item in items:
        labels.setdefault(item.group, set()).add(item.label)
    left = Counter(label for found in labels.values() for label in found)
    wanted = {label: max(1, round(fraction * count)) for label, count in left.items()}
    least = {label: keep if count > keep else 1 for label, count in left.items()}
    chosen: set[str] = set()
    for group in groups:
        found = labels[group]
        if all(left[label] > least[label] for label in found) and any(wanted[label] > 0 for label in found):
            chosen.add(group)
            left.subtract(found)
            for label in found:
                wanted[label] -= 1
    return chosen


def require_folder(name: str, root: Path | None, holds: str) -> Path:
    """`root`, or DatasetError saying what the folder should hold."""
    if root is None:
        raise DatasetError(f"{name} needs a path: '{name}:/path', a folder with {holds}")
    if not root.is_dir():
        raise MissingDatasetError(f"{name}: expected a folder with {holds}, but there is no folder '{root}'")
    return root


def find_file(name: str, root: Path, folders: Iterable[str], file: str) -> Path:
    """`file` in the first of `folders` under `root` that has it; DatasetError naming all that were looked at."""
    places = [root / folder / file for folder in folders]
    for place in places:
        if place.is_file():
            return place
    raise MissingDatasetError(f"{name}: expected '{file}' at one of: {', '.join(str(place) for place in places)}")


def read_lines(name: str, path: Path) -> list[str]:
    """The lines of a list file that are not blank; DatasetError names the file where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise MissingDatasetError(f"{name}: expected the file '{path}', which does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{name}: cannot read '{path}' as text: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_table(name: str, path: Path, needed: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with a header; DatasetError where columns `needed` are missing or a row is short."""
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
    """Raise UsageError naming the options of data set `name` that are none of `known`."""
    known = sorted(known)
    if unknown := sorted(set(options) - set(known)):
        raise UsageError(f"{name} has no option {', '.join(unknown)}; it has: {', '.join(known)}")


def whole_number_option(name: str, options: Mapping[str, str], default: int, allowed: range) -> int:
    """Option `name` as a whole number within `allowed`; UsageError otherwise."""
    return int(_number(name, options, int, default, lambda value: value in allowed, f"{allowed[0]}..{allowed[-1]}"))


def fraction_option(name: str, options: Mapping[str, str], default: float) -> float:
    """Option `name` as a number in [0, 1); UsageError otherwise."""
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
