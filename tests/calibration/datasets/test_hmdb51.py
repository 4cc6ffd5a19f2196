from __future__ import annotations

from pathlib import Path

import pytest

from edgeact.calibration.datasets import load_dataset
from edgeact.errors import DatasetError
from tests.calibration.datasets.trees import put_text, put_videos
from tests.messages import names

# Names as published, with their odd characters, and ten people in one of them.
LISTS = {
    "brush_hair": [
        ("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", 1),
        ("April_09_brush_hair_u_nm_np1_ba_goo_1.avi", 1),
        ("Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!_brush_hair_h_cm_np1_fr_goo_0.avi", 2),
        ("Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!_brush_hair_h_cm_np1_le_goo_3.avi", 0),
        ("brushing_hair_brush_hair_f_cm_np2_ri_goo_0.avi", 1),
    ],
    "shoot_bow": [
        ("Return_of_the_King_1_shoot_bow_u_cm_np1_fr_med_9.avi", 2),
        ("Return_of_the_King_7_shoot_bow_u_nm_np10_ba_med_2.avi", 1),
        ("ParkKyungMo_shoot_bow_f_cm_np2_fr_med_0.avi", 1),
    ],
}


def _tree(root: Path, lists: str = "testTrainMulti_7030_splits", videos: str = "hmdb51_org") -> None:
    put_videos(root / videos, [f"{label}/{name}" for label, entries in LISTS.items() for name, _ in entries])
    for label, entries in LISTS.items():  # published lines end in a blank
        put_text(root / lists / f"{label}_test_split1.txt", [f"{name} {mark} " for name, mark in entries])


@pytest.mark.parametrize(("lists", "videos"), [("testTrainMulti_7030_splits", "hmdb51_org"), ("", "")])
def test_load_hmdb51_follows_the_official_lists(tmp_path: Path, lists: str, videos: str) -> None:
    _tree(tmp_path, lists, videos)
    dataset = load_dataset(f"hmdb51:{tmp_path}?val=0")
    assert dataset.labels == ("brush_hair", "shoot_bow")
    assert {item.group for item in dataset.split("train")} == {
        "brush_hair/April_09",
        "brush_hair/brushing_hair",
        "shoot_bow/Return_of_the_King_7",
        "shoot_bow/ParkKyungMo",
    }
    assert {item.group for item in dataset.split("test")} == {
        "brush_hair/Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!",
        "shoot_bow/Return_of_the_King_1",
    }
    assert dataset.skipped == {}


def test_load_hmdb51_splits_whole_sources_off_for_validation(tmp_path: Path) -> None:
    _tree(tmp_path)
    dataset = load_dataset(f"hmdb51:{tmp_path}?val=0.5")
    assert len(dataset.split("train")) + len(dataset.split("val")) == 5
    assert len({item.group for item in dataset.split("val")}) == 2


def test_load_hmdb51_skips_training_videos_of_test_sources(tmp_path: Path) -> None:
    _tree(tmp_path)
    entries = [f"{name} {2 if name.endswith('goo_0.avi') else mark}" for name, mark in LISTS["brush_hair"]]
    put_text(tmp_path / "testTrainMulti_7030_splits" / "brush_hair_test_split1.txt", entries)
    dataset = load_dataset(f"hmdb51:{tmp_path}?val=0")
    assert dataset.skipped == {"training videos of a test group": 1}
    assert len(dataset.split("test")) == 4


def test_load_hmdb51_counts_missing_videos(tmp_path: Path) -> None:
    _tree(tmp_path)
    (tmp_path / "hmdb51_org" / "shoot_bow" / LISTS["shoot_bow"][0][0]).unlink()
    assert load_dataset(f"hmdb51:{tmp_path}?val=0").skipped == {"missing": 1}


@pytest.mark.parametrize("line", ["clip.avi 3", "clip.avi", "1"])
def test_load_hmdb51_refuses_malformed_lists(tmp_path: Path, line: str) -> None:
    _tree(tmp_path)
    put_text(tmp_path / "testTrainMulti_7030_splits" / "shoot_bow_test_split1.txt", [line])
    with pytest.raises(DatasetError, check=names("shoot_bow_test_split1.txt", "'name.avi 0'", f"got '{line}'")):
        load_dataset(f"hmdb51:{tmp_path}")


def test_load_hmdb51_names_missing_lists(tmp_path: Path) -> None:
    _tree(tmp_path)
    with pytest.raises(DatasetError, check=names("expected '<class>_test_split2.txt' lists in one of")):
        load_dataset(f"hmdb51:{tmp_path}?split=2")
