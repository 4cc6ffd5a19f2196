from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from edgeact.calibration.datasets import DATASETS, load_dataset
from edgeact.errors import DatasetError, UnknownNameError, UsageError
from tests.calibration.datasets.trees import put_videos


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_entry_leads_to_a_loader_that_checks_its_options(name: str) -> None:
    module, _, attribute = DATASETS[name].partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))
    with pytest.raises(UsageError, match=f"{name} has no option nonsense"):
        load_dataset(f"{name}:/nowhere?nonsense=1")


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("ucf-101:/d", "did you mean ucf101"), ("stickactions", "did you mean stick-actions"), ("zzz", "known: folder")],
)
def test_unknown_names_get_near_matches(spec: str, hint: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown data set '.*'; {hint}"):
        load_dataset(spec)


@pytest.mark.parametrize("query", ["split", "split=1&", "split=1&split=2"])
def test_malformed_options_are_usage_errors(query: str) -> None:
    with pytest.raises(UsageError, match=r"key=value|given twice"):
        load_dataset(f"ucf101:/d?{query}")


def test_a_path_that_does_not_exist_is_not_taken_for_a_name() -> None:
    with pytest.raises(DatasetError, match="there is no folder '/no/such/folder'"):
        load_dataset("/no/such/folder")


def test_paths_may_hold_odd_characters(tmp_path: Path) -> None:
    root = tmp_path / "my clips: take #2"
    put_videos(root, ["train/a/x.mp4", "val/a/y.mp4", "test/a/z.mp4"])
    assert load_dataset(str(root)) == load_dataset(f"folder:{root}")
