from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.calibration.datasets import Dataset, VideoItem, require_disjoint_groups
from edgeact.calibration.datasets.listing import Listing, split_off
from edgeact.errors import DatasetError
from tests.calibration.datasets.trees import put_videos
from tests.messages import names


def _items(groups: list[str], labels: int = 3) -> tuple[VideoItem, ...]:
    return tuple(VideoItem(Path(f"/d/{n}.mp4"), n % labels, group) for n, group in enumerate(groups))


def _dataset(root: Path) -> Dataset:
    put_videos(root, ["a/x.mp4", "b/y.mp4"])
    items = (VideoItem(root / "b" / "y.mp4", 1, "y"), VideoItem(root / "a" / "x.mp4", 0, "x"))
    return Dataset("mine", root, ("a", "b"), {"test": items})


def test_dataset_digest_is_independent_of_root_and_order(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "one")
    moved = _dataset(tmp_path / "two")
    turned = Dataset("mine", moved.root, moved.labels, {"test": moved.split("test")[::-1]})
    assert dataset.digest("test") == moved.digest("test") == turned.digest("test")


@pytest.mark.parametrize("change", ["content", "name", "label", "fewer"])
def test_dataset_digest_changes_with_paths_labels_and_contents(tmp_path: Path, change: str) -> None:
    dataset = _dataset(tmp_path)
    before, first, second = dataset.digest("test"), *dataset.split("test")
    if change == "content":
        second.path.write_bytes(second.path.read_bytes() + b"\0")
    elif change == "name":
        shutil.move(second.path, second.path.with_name("z.mp4"))
        second = VideoItem(second.path.with_name("z.mp4"), second.label, second.group)
    elif change == "label":
        second = VideoItem(second.path, 1, second.group)
    items = (first,) if change == "fewer" else (first, second)
    assert Dataset("mine", tmp_path, ("a", "b"), {"test": items}).digest("test") != before


def test_dataset_digest_names_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path)
    dataset.split("test")[0].path.unlink()
    with pytest.raises(DatasetError, check=names("cannot read", "y.mp4")):
        dataset.digest("test")


def test_dataset_refuses_unknown_splits_bad_labels_and_no_videos() -> None:
    dataset = Dataset("mine", Path("/d"), ("a", "b", "c"), {"test": _items(["g"])})
    with pytest.raises(DatasetError, check=names("no split 'dev'; expected one of: test")):
        dataset.split("dev")
    with pytest.raises(DatasetError, check=names("label 2, expected 0..1")):
        Dataset("mine", Path("/d"), ("a", "b"), {"test": _items(["g", "h", "i"])})
    with pytest.raises(DatasetError, check=names("no usable video under '/d' (7 missing)")):
        Dataset("mine", Path("/d"), ("a",), {"test": ()}, {"missing": 7})


def test_require_disjoint_groups_names_groups_and_splits() -> None:
    splits = {"train": _items(["anna", "ben"]), "test": _items(["ben", "cleo"])}
    with pytest.raises(DatasetError, check=names("1 groups", "'ben' (test + train)")):
        Dataset("mine", Path("/d"), ("a", "b", "c"), splits)
    with pytest.raises(DatasetError, check=names("7 groups", "and 2 more")):
        require_disjoint_groups("mine", {"train": _items(list("abcdefg")), "val": _items(list("abcdefg"))})


@given(st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=1), st.floats(0.0, 0.9))
def test_split_off_keeps_groups_whole_and_loses_no_video(groups: list[str], fraction: float) -> None:
    items = list(_items(groups))
    listing = Listing({"train": list(items)})
    different = len(set(groups))
    if fraction > 0.0 and max(1, round(fraction * different)) >= different:
        with pytest.raises(DatasetError, check=names("define other groups")):
            split_off(listing, "train", "val", fraction)
        return
    split_off(listing, "train", "val", fraction)
    require_disjoint_groups("mine", listing.splits)
    assert Counter([*listing.splits["train"], *listing.splits.get("val", [])]) == Counter(items)
    assert bool(listing.splits.get("val")) == (fraction > 0.0)
    turned = Listing({"train": items[::-1]})
    split_off(turned, "train", "val", fraction)
    assert set(turned.splits.get("val", [])) == set(listing.splits.get("val", []))
