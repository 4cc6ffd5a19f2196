from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from edgeact.calibration.datasets import DATASETS, load_dataset
from edgeact.errors import DatasetError, UnknownNameError, UsageError
from tests.calibration.datasets.trees import put_text, put_videos
from tests.messages import names


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_loader_checks_its_options(name: str) -> None:
    module, _, attribute = DATASETS[name].partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))
    with pytest.raises(UsageError, check=names(name, "no option nonsense")):
        load_dataset(f"{name}:/nowhere?nonsense=1")


_CLIP = "v_a_g{0:02d}_c01.avi"
_TREES: dict[str, tuple[str, list[str], dict[str, list[str]]]] = {
    "folder": ("folder:{root}", [f"a/p{number}_1.mp4" for number in range(300)], {}),
    "hmdb51": (
        "hmdb51:{root}",
        [f"a/n{number}_a_u_nm_np1_ba_goo_0.avi" for number in range(300)],
        {"a_test_split1.txt": [f"n{number}_a_u_nm_np1_ba_goo_0.avi {1 + number % 2}" for number in range(300)]},
    ),
    "kinetics": (
        "kinetics:{root}/list.csv",
        [f"{number}.mp4" for number in range(300)],
        {"list.csv": [f"{number}.mp4,a" for number in range(300)]},
    ),
    "stick-actions": ("stick-actions:{root}/made?train=288&val=0&test=12&size=32x32", [], {}),
    "ucf101": (
        "ucf101:{root}",
        [f"a/{_CLIP.format(number)}" for number in range(300)],
        {
            "classInd.txt": ["1 a"],
            "trainlist01.txt": [f"a/{_CLIP.format(number)} 1" for number in range(200)],
            "testlist01.txt": [f"a/{_CLIP.format(number)}" for number in range(200, 300)],
        },
    ),
}
"""A spec of 300 videos for each loader, with its files and the lines of its text files."""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_loader_reports_progress(name: str, tmp_path: Path) -> None:
    spec, files, texts = _TREES[name]
    put_videos(tmp_path, files)
    for path, lines in texts.items():
        put_text(tmp_path / path, lines)
    calls: list[tuple[int, int]] = []
    dataset = load_dataset(spec.format(root=tmp_path), lambda done, total: calls.append((done, total)))
    assert sum(len(items) for items in dataset.splits.values()) == 300
    assert len(calls) > 1
    assert calls == sorted(set(calls))
    assert {total for _, total in calls} == {300}
    assert calls[-1] == (300, 300)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("ucf-101:/d", "did you mean ucf101"), ("stickactions", "did you mean stick-actions"), ("zzz", "known: folder")],
)
def test_load_dataset_suggests_similar_names(spec: str, hint: str) -> None:
    with pytest.raises(UnknownNameError, check=names("unknown data set", hint)):
        load_dataset(spec)


@pytest.mark.parametrize("query", ["split", "split=1&", "split=1&split=2"])
def test_load_dataset_refuses_malformed_options(query: str) -> None:
    with pytest.raises(UsageError, match=r"key=value|every option once"):
        load_dataset(f"ucf101:/d?{query}")


def test_load_dataset_refuses_a_missing_folder() -> None:
    with pytest.raises(DatasetError, check=names("there is no folder '/no/such/folder'")):
        load_dataset("/no/such/folder")


def test_load_dataset_accepts_special_characters_in_paths(tmp_path: Path) -> None:
    root = tmp_path / "my clips: take #2"
    put_videos(root, ["train/a/x.mp4", "val/a/y.mp4", "test/a/z.mp4"])
    assert load_dataset(str(root)) == load_dataset(f"folder:{root}")
