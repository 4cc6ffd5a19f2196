from __future__ import annotations

from pathlib import Path

import pytest

from edgeact.calibration.datasets import load_dataset
from edgeact.errors import DatasetError, UsageError
from tests.calibration.datasets.trees import put_text, put_videos
from tests.messages import names

# The folder is HandstandPushups, the files are called HandStandPushups: so it is in the published data.
CLASSES = {"ApplyEyeMakeup": "ApplyEyeMakeup", "HandstandPushups": "HandStandPushups"}


def _names(groups: range) -> list[str]:
    return [f"{c}/v_{stem}_g{g:02d}_c{k:02d}.avi" for c, stem in CLASSES.items() for g in groups for k in (1, 2)]


def _tree(root: Path, lists: str = "ucfTrainTestlist", videos: str = "UCF-101") -> None:
    """Put groups 1 to 3 into the test split, 4 to 9 into training; the lists have Windows line ends, as published."""
    put_videos(root / videos, _names(range(1, 10)))
    put_text(root / lists / "classInd.txt", [f"{n} {name}" for n, name in enumerate(CLASSES, 1)], "\r\n")
    number = {name: n for n, name in enumerate(CLASSES, 1)}
    trained = [f"{name} {number[name.partition('/')[0]]}" for name in _names(range(4, 10))]
    put_text(root / lists / "trainlist01.txt", trained, "\r\n")
    put_text(root / lists / "testlist01.txt", _names(range(1, 4)), "\r\n")


@pytest.mark.parametrize(("lists", "videos"), [("ucfTrainTestlist", "UCF-101"), ("", "")])
def test_load_ucf101_follows_the_official_lists(tmp_path: Path, lists: str, videos: str) -> None:
    _tree(tmp_path, lists, videos)
    dataset = load_dataset(f"ucf101:{tmp_path}?split=1&val=0.25")
    assert dataset.labels == tuple(CLASSES)
    assert {split: len(items) for split, items in dataset.splits.items()} == {"train": 16, "val": 8, "test": 12}
    assert {item.group for item in dataset.split("test")} == {f"{c}/g{g:02d}" for c in CLASSES for g in (1, 2, 3)}
    assert all(item.path.is_file() for items in dataset.splits.values() for item in items)
    assert dataset.skipped == {}


def test_load_ucf101_without_validation_keeps_all_training_videos(tmp_path: Path) -> None:
    _tree(tmp_path)
    assert {s: len(items) for s, items in load_dataset(f"ucf101:{tmp_path}?val=0").splits.items()} == {
        "train": 24,
        "test": 12,
    }


def test_load_ucf101_counts_missing_and_empty_videos(tmp_path: Path) -> None:
    _tree(tmp_path)
    missing, empty, *_ = _names(range(1, 4))
    (tmp_path / "UCF-101" / missing).unlink()
    (tmp_path / "UCF-101" / empty).write_bytes(b"")
    dataset = load_dataset(f"ucf101:{tmp_path}")
    assert dataset.skipped == {"missing": 1, "empty": 1}
    assert len(dataset.split("test")) == 10


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("classInd.txt", ["1 ApplyEyeMakeup", "3 HandstandPushups"], ("expected '2 ClassName', got '3 Hand",)),
        ("trainlist01.txt", ["ApplyEyeMakeup/v_ApplyEyeMakeup_g04_c01.avi 2"], ("is number 1 in classInd.txt",)),
        ("trainlist01.txt", ["Surfing/v_Surfing_g04_c01.avi 1"], ("of a known class, got 'Surfing",)),
        ("testlist01.txt", ["ApplyEyeMakeup/clip.avi"], ("expected 'Class/v_Class_gXX_cYY.avi'",)),
        ("testlist01.txt", _names(range(3, 5)), ("2 groups are in more than one split: 'ApplyEyeMakeup/g04'",)),
    ],
)
def test_load_ucf101_refuses_malformed_lists(
    tmp_path: Path, file: str, lines: list[str], message: tuple[str, ...]
) -> None:
    _tree(tmp_path)
    put_text(tmp_path / "ucfTrainTestlist" / file, lines)
    with pytest.raises(DatasetError, check=names(*message)):
        load_dataset(f"ucf101:{tmp_path}?val=0")


def test_load_ucf101_names_missing_files(tmp_path: Path) -> None:
    _tree(tmp_path)
    with pytest.raises(DatasetError, check=names("expected the file '", "trainlist02.txt'")):
        load_dataset(f"ucf101:{tmp_path}?split=2")
    with pytest.raises(DatasetError, check=names("expected 'classInd.txt' at one of")):
        load_dataset(f"ucf101:{tmp_path / 'UCF-101'}")
    with pytest.raises(DatasetError, check=names("there is no folder")):
        load_dataset(f"ucf101:{tmp_path / 'nowhere'}")
    with pytest.raises(DatasetError, check=names("ucf101 needs a path")):
        load_dataset("ucf101")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("split=4", ("expected 1..3, got '4'",)),
        ("split=one", ("expected 1..3, got 'one'",)),
        ("val=1", ("expected a fraction",)),
        ("val=nan", ("expected a fraction",)),
        ("fold=1", ("no option fold; expected options of: split, val",)),
    ],
)
def test_load_ucf101_refuses_bad_options(tmp_path: Path, option: str, message: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, check=names(*message)):
        load_dataset(f"ucf101:{tmp_path}?{option}")
