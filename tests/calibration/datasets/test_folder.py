from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.calibration.datasets import StickActionsConfig, generate_stick_actions, load_dataset
from edgeact.errors import DatasetError, UsageError
from tests.calibration.datasets.trees import put_text, put_videos
from tests.messages import names

PERSONS = [f"person{n}" for n in range(10)]


def _class_folders(root: Path) -> None:
    put_videos(root, [f"{label}/{name}_{take:02d}.mp4" for label in "ab" for name in PERSONS for take in (0, 1)])
    put_text(root / "a" / "notes.txt", ["no video"])


def test_load_folder_without_splits_draws_whole_groups_deterministically(tmp_path: Path) -> None:
    _class_folders(tmp_path)
    dataset = load_dataset(str(tmp_path))
    assert dataset == load_dataset(f"folder:{tmp_path}?test=0.15&val=0.15")
    assert dataset.labels == ("a", "b")
    groups = {split: {item.group for item in items} for split, items in dataset.splits.items()}
    assert set.union(*groups.values()) == set(PERSONS)
    assert {split: len(items) for split, items in dataset.splits.items()} == {"train": 28, "val": 4, "test": 8}
    # Which groups are tested on is a promise to those who compare figures over time.
    assert groups["test"] == TESTED


TESTED = {"person1", "person2"}  # the two lowest by SHA-256 of the name


@given(
    st.one_of(
        st.lists(st.integers(1, 6), min_size=3, max_size=5),
        st.lists(st.integers(2, 6), min_size=2, max_size=2),
        st.lists(st.integers(3, 6), min_size=1, max_size=1),
    ),
    st.booleans(),
)
def test_load_folder_puts_each_class_into_each_split_if_it_has_enough_groups(
    counts: list[int], wants_val: bool
) -> None:
    with TemporaryDirectory() as folder:
        names = [
            f"{label}/{label}p{n}_{take}.mp4"
            for label, count in enumerate(counts)
            for n in range(count)
            for take in "01"
        ]
        put_videos(Path(folder), names)
        if max(counts) < 3 and wants_val:
            return
        dataset = load_dataset(f"folder:{folder}?val={0.15 if wants_val else 0}")
    labels_of = {split: {item.label for item in items} for split, items in dataset.splits.items()}
    assert list(labels_of) == (["train", "val", "test"] if wants_val else ["train", "test"])
    if max(counts) > 1:
        assert labels_of["train"] == set(range(len(counts)))
        assert labels_of["test"] == {label for label, count in enumerate(counts) if count > 1}
    if wants_val:
        assert labels_of["val"] == {label for label, count in enumerate(counts) if count > 2}
    assert len(dataset.gaps()) == sum(len(counts) - len(labels) for labels in labels_of.values())


def test_load_folder_names_the_gaps_of_persons_in_all_classes(tmp_path: Path) -> None:
    put_videos(tmp_path, [f"{label}/{who}_1.mp4" for label in "ab" for who in ("x", "y", "z")] + ["walk right/x_1.mp4"])
    dataset = load_dataset(str(tmp_path))
    assert {split: len(items) for split, items in dataset.splits.items()} == {"train": 3, "val": 2, "test": 2}
    assert dataset.gaps() == ("class 'walk right' has no val video", "class 'walk right' has no test video")


def test_load_folder_takes_groups_from_a_regular_expression_or_a_table(tmp_path: Path) -> None:
    put_videos(tmp_path, [f"{label}/{take}-{who}.mp4" for label in "ab" for take in range(3) for who in "xyz"])
    by_pattern = load_dataset(f"folder:{tmp_path}?group=-(.)&test=0.34&val=0.34")
    assert all(len({item.group for item in items}) == 1 for items in by_pattern.splits.values())
    names = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.mp4")]
    put_text(tmp_path / "groups.csv", ["path,group", *(f"{name},{name[-5]}" for name in names)])
    assert load_dataset(f"folder:{tmp_path}?test=0.34&val=0.34") == by_pattern
    put_text(tmp_path / "groups.csv", ["path,group", *(f"{name},{name[-5]}" for name in names[1:])])
    with pytest.raises(DatasetError, match=f"'groups.csv' has no row for '{names[0]}'"):
        load_dataset(f"folder:{tmp_path}")


def test_load_folder_keeps_split_folders_and_splits_off_missing_validation(tmp_path: Path) -> None:
    put_videos(tmp_path, [f"train/a/p{n}_0.mp4" for n in range(8)] + ["test/a/q_0.mp4", "test/b/q_1.mp4"])
    dataset = load_dataset(f"{tmp_path}")
    assert dataset.labels == ("a", "b")
    assert {split: len(items) for split, items in dataset.splits.items()} == {"train": 7, "val": 1, "test": 2}
    put_videos(tmp_path, ["validation/b/r_0.mp4"])
    assert {s: len(items) for s, items in load_dataset(str(tmp_path)).splits.items()} == {
        "train": 8,
        "val": 1,
        "test": 2,
    }
    put_videos(tmp_path, ["test/b/p3_9.mp4"])
    with pytest.raises(DatasetError, check=names("'p3' (test + train)")):
        load_dataset(str(tmp_path))


def test_load_folder_reads_splits_csv(tmp_path: Path) -> None:
    put_videos(tmp_path, ["v/1.mp4", "v/2.mp4", "v/3.mp4"])
    table = ["path,label,split,group", "v/1.mp4,run,train,x", "v/2.mp4,sit,val,y", "v/3.mp4,sit,test,z"]
    put_text(tmp_path / "splits.csv", [*table, "v/4.mp4,sit,test,z"])
    dataset = load_dataset(str(tmp_path))
    assert (dataset.labels, dataset.skipped) == (("run", "sit"), {"missing": 1})
    assert {split: items[0].group for split, items in dataset.splits.items()} == {"train": "x", "val": "y", "test": "z"}
    put_text(tmp_path / "splits.csv", [*table[:2], "v/2.mp4,sit,test,x"])
    with pytest.raises(DatasetError, check=names("'x' (test + train)")):
        load_dataset(f"folder:{tmp_path}?val=0")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (["file,label,split"], ("missing: path",)),
        (["path,label", "1.mp4,run"], ("expected columns path, cls or label, split or fold",)),
        (["path,label,split", "1.mp4,run,dev"], ("expected split", "got 'dev'")),
        (["path,label,split", "1.mp4,run"], ("expected 3 values",)),
        (["path,label,split"], ("expected columns path, cls or label",)),
    ],
)
def test_load_folder_refuses_malformed_tables(tmp_path: Path, table: list[str], message: tuple[str, ...]) -> None:
    put_text(tmp_path / "splits.csv", table)
    with pytest.raises(DatasetError, check=names(*message)):
        load_dataset(str(tmp_path))


def test_load_folder_refuses_too_few_groups(tmp_path: Path) -> None:
    put_videos(tmp_path, [f"a/anna_{n}.mp4" for n in range(9)])
    with pytest.raises(DatasetError, check=names("9 videos", "1 group(s), 'anna'", "define other groups")):
        load_dataset(str(tmp_path))


def test_load_folder_counts_empty_videos(tmp_path: Path) -> None:
    _class_folders(tmp_path)
    (tmp_path / "a" / "person3_00.mp4").write_bytes(b"")
    assert load_dataset(str(tmp_path)).skipped == {"empty": 1}


def test_load_folder_refuses_empty_folders_and_bad_options(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, check=names("expected one folder of videos per class")):
        load_dataset(str(tmp_path))
    (tmp_path / "a").mkdir()
    with pytest.raises(DatasetError, check=names("no usable video", "(nothing listed)")):
        load_dataset(str(tmp_path))
    put_videos(tmp_path, ["a/x_1.mp4"])
    for option, message in [
        ("group=(", "is not a regular expression"),
        ("group=x", "expected a bracket"),
        ("test=2", "option test: expected a fraction"),
        ("size=3", "no option size"),
    ]:
        with pytest.raises(UsageError, match=message):
            load_dataset(f"folder:{tmp_path}?{option}")
    with pytest.raises(DatasetError, check=names("matches nothing in 'a/x_1.mp4'")):
        load_dataset(f"folder:{tmp_path}?group=person(.)")


def test_load_folder_reads_a_generated_data_set(tmp_path: Path) -> None:
    made = generate_stick_actions(
        tmp_path, StickActionsConfig(train=12, val=12, test=12, size=(64, 48), persons=(2, 1, 1))
    )
    loaded = load_dataset(str(tmp_path))
    assert {split: made.digest(split) for split in made.splits} == {
        split: loaded.digest(split) for split in loaded.splits
    }


@pytest.mark.real_video
def test_load_folder_reads_interaction_videos_with_folds(shared_data: Path) -> None:
    dataset = load_dataset(f"folder:{shared_data / 'ut_interaction'}?fold=1&val=0.2&group=/(.*)_")
    assert dataset.labels == ("handshake", "hug", "kick", "point", "punch", "push")
    assert sum(len(items) for items in dataset.splits.values()) == 96
    assert 23 <= len(dataset.split("test")) <= 25
