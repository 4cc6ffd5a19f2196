from __future__ import annotations

from pathlib import Path

import pytest

from edgeact.calibration.datasets import load_dataset
from edgeact.errors import DatasetError, UsageError
from tests.calibration.datasets.trees import put_text, put_videos
from tests.messages import names

HEADER = "label,youtube_id,time_start,time_end,split,is_cc"


@pytest.mark.parametrize("folder", ["", "riding a bike/", "riding_a_bike/", "train/", "train/riding_a_bike/"])
def test_load_kinetics_finds_the_videos_of_an_official_list(tmp_path: Path, folder: str) -> None:
    put_videos(tmp_path, [f"{folder}-abc_DEF123_000003_000013.mp4"])
    put_text(tmp_path / "list.csv", [HEADER, "riding a bike,-abc_DEF123,3,13,train,0"])
    dataset = load_dataset(f"kinetics:{tmp_path / 'list.csv'}")
    assert dataset.labels == ("riding a bike",)
    (item,) = dataset.split("train")
    assert (item.label, item.group) == (0, "-abc_DEF123")


def test_load_kinetics_reads_a_folder_of_lists_with_videos_elsewhere(tmp_path: Path) -> None:
    put_videos(tmp_path / "videos", ["aaa_000000_000010.mp4", "bbb_000000_000010.mp4", "ccc_000100_000110.mp4"])
    put_text(tmp_path / "train.csv", [HEADER, '"eating, fast",aaa,0,10,train,0', "zumba,zzz,0,10,train,0"])
    put_text(tmp_path / "validate.csv", [HEADER, "zumba,bbb,0,10,validate,1"])
    put_text(tmp_path / "test.csv", ["youtube_id,time_start,time_end,split", "ccc,100,110,test"])
    dataset = load_dataset(f"kinetics:{tmp_path}?videos={tmp_path / 'videos'}")
    assert dataset.labels == ("eating, fast", "zumba")
    assert {split: len(items) for split, items in dataset.splits.items()} == {"train": 1, "val": 1}
    assert dataset.skipped == {"missing": 1, "unlabelled": 1}


@pytest.mark.parametrize("separator", [",", " ", ", "])
@pytest.mark.parametrize("header", [True, False])
def test_load_kinetics_reads_plain_lists(tmp_path: Path, separator: str, header: bool) -> None:
    put_videos(tmp_path, ["x/one_000001_000011.mp4", "x/two.mp4"])
    lines = [f"x/one_000001_000011.mp4{separator}jump", f"x/two.mp4{separator}run"]
    put_text(tmp_path / "my_val_list.txt", [f"path{separator}label"] * header + lines)
    dataset = load_dataset(f"kinetics:{tmp_path / 'my_val_list.txt'}")
    assert dataset.labels == ("jump", "run")
    assert [(item.label, item.group) for item in dataset.split("val")] == [(0, "one"), (1, "two")]


def test_load_kinetics_takes_names_of_numbered_labels_from_a_file(tmp_path: Path) -> None:
    put_videos(tmp_path, ["a.mp4", "b.mp4"])
    put_text(tmp_path / "list.csv", ["a.mp4 0", "b.mp4 2"])
    put_text(tmp_path / "names.txt", ["jump", "run", "sit"])
    spec = f"kinetics:{tmp_path / 'list.csv'}?split=train"
    assert load_dataset(spec).labels == ("0", "1", "2")
    named = load_dataset(f"{spec}&labels={tmp_path / 'names.txt'}")
    assert [named.labels[item.label] for item in named.split("train")] == ["jump", "sit"]
    put_text(tmp_path / "names.txt", ["jump", "run"])
    with pytest.raises(DatasetError, check=names("label '2' is not among the 2")):
        load_dataset(f"{spec}&labels={tmp_path / 'names.txt'}")


def test_load_kinetics_refuses_a_youtube_video_in_two_splits(tmp_path: Path) -> None:
    put_videos(tmp_path, ["aaa_000000_000010.mp4", "aaa_000020_000030.mp4"])
    put_text(tmp_path / "list.csv", [HEADER, "jump,aaa,0,10,train,0", "jump,aaa,20,30,val,0"])
    with pytest.raises(DatasetError, check=names("'aaa' (train + val)")):
        load_dataset(f"kinetics:{tmp_path / 'list.csv'}")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER, "jump,aaa,zero,10,train,0"], ("expected times in seconds",)),
        ([HEADER, "jump,aaa,0,10,holdout,0"], ("expected a split of", ", got 'holdout'")),
        ([HEADER, "jump,aaa,0"], ("expected 6 values",)),
        (["label,youtube_id,split", "jump,aaa,train"], ("missing: time_start, time_end",)),
        (["a.mp4,jump,extra"], ("expected 'path,label' or 'path label'",)),
        (["a.mp4"], ("expected 'path,label' or 'path label'",)),
        (["a.mp4,jump"], ("no usable video under", "(1 missing)")),
        ([], ("no usable video under", "(nothing listed)")),
    ],
)
def test_load_kinetics_refuses_malformed_lists(tmp_path: Path, lines: list[str], message: tuple[str, ...]) -> None:
    put_text(tmp_path / "list.csv", lines)
    with pytest.raises(DatasetError, check=names(*message)):
        load_dataset(f"kinetics:{tmp_path / 'list.csv'}")


def test_load_kinetics_names_missing_files_and_bad_options(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, check=names("expected the file")):
        load_dataset(f"kinetics:{tmp_path / 'list.csv'}")
    with pytest.raises(DatasetError, check=names("expected one of train.csv")):
        load_dataset(f"kinetics:{tmp_path}")
    with pytest.raises(DatasetError, check=names("kinetics needs a path")):
        load_dataset("kinetics")
    put_text(tmp_path / "list.csv", ["a.mp4,jump"])
    with pytest.raises(DatasetError, check=names("expected a folder of videos")):
        load_dataset(f"kinetics:{tmp_path / 'list.csv'}?videos={tmp_path / 'nowhere'}")
    with pytest.raises(UsageError, check=names("option split: expected one of")):
        load_dataset(f"kinetics:{tmp_path / 'list.csv'}?split=dev")
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, check=names("as text")):
        load_dataset(f"kinetics:{tmp_path / 'list.csv'}")
