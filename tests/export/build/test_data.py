"""The videos of an export: never the same for calibration and evaluation, the same each time, refused where unfit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.calibration.datasets import Dataset, VideoItem
from edgeact.calibration.datasets.stick_actions import LABELS as ACTIONS
from edgeact.errors import CalibrationError
from edgeact.export.build import data as data_module
from edgeact.export.build.data import RANDOM_DATA, DataPlan, ExportData, gather
from edgeact.export.models.loading import LoadedModel
from edgeact.loading_notes import AccuracyNotMeasured, UntestedClasses
from tests.export.colours import LABELS, clip_spec, write_colours
from tests.messages import names


def _groups(items: tuple[VideoItem, ...]) -> set[str]:
    return {item.group for item in items}


def test_calibration_and_evaluation_share_no_group(colour_data: ExportData) -> None:
    assert not _groups(colour_data.calibration.items) & _groups(colour_data.evaluation)
    assert not _groups(colour_data.calibration.items) & _groups(colour_data.parity.items)
    assert colour_data.provenance.split == "train"
    assert colour_data.provenance.clips == len(colour_data.calibration) >= 32
    assert colour_data.provenance.classes == len(LABELS)
    assert not colour_data.provenance.synthetic
    assert colour_data.source is not None
    assert colour_data.source.split == "test"


def test_the_same_plan_gives_the_same_clips(colour_videos: Path, colour_data: ExportData) -> None:
    again = gather(DataPlan(str(colour_videos)), LABELS, clip_spec())
    assert again.provenance == colour_data.provenance
    assert again.evaluation == colour_data.evaluation
    for one, other in zip(again.calibration.inputs, colour_data.calibration.inputs, strict=True):
        np.testing.assert_array_equal(one, other)
    other_seed = gather(DataPlan(str(colour_videos), seed=1), LABELS, clip_spec())
    assert other_seed.calibration.items != colour_data.calibration.items


def test_labels_are_matched_by_name(colour_videos: Path) -> None:
    turned = tuple(reversed(LABELS))
    data = gather(DataPlan(str(colour_videos)), turned, clip_spec())
    assert data.labels == turned
    assert data.source is not None
    for item in (*data.evaluation, *data.parity.items, *data.calibration.items):
        assert item.path.parent.name == turned[item.label]


def test_labels_the_model_does_not_know_leave_accuracy_out(colour_videos: Path) -> None:
    data = gather(DataPlan(str(colour_videos)), ("blue", "dark", "green", "purple"), clip_spec())
    assert data.source is None
    assert isinstance(data.note, AccuracyNotMeasured)
    assert "1 labels the model does not know (red)" in data.note.error
    assert data.labels == LABELS


def test_a_class_without_a_test_video_is_reported(colour_videos: Path, tmp_path: Path, colour_data: ExportData) -> None:
    shutil.copytree(colour_videos, tmp_path / "videos")
    only, *others = sorted((tmp_path / "videos" / "red").iterdir())
    for path in others:
        path.unlink()
    data = gather(DataPlan(str(tmp_path / "videos")), LABELS, clip_spec())
    assert only in {item.path for item in data.calibration.items}
    assert data.source is not None
    assert data.note == UntestedClasses(label="red", others=0, split="test")
    assert colour_data.note is None


def test_a_lone_split_is_carved_by_groups(colour_videos: Path) -> None:
    data = gather(DataPlan(f"folder:{colour_videos}?test=0&val=0"), LABELS, clip_spec())
    used, left = _groups(data.calibration.items), _groups(data.evaluation)
    assert not used & left
    assert (len(used), len(left)) == (5, 10)
    assert data.provenance.split == "train (5 of 15 groups)"
    assert data.source is not None
    assert data.source.split == "train (10 of 15 groups)"
    assert gather(DataPlan(f"folder:{colour_videos}?test=0&val=0"), LABELS, clip_spec()).evaluation == data.evaluation


def test_one_group_alone_is_refused(tmp_path: Path) -> None:
    write_colours(tmp_path, persons=1)
    with pytest.raises(CalibrationError, check=names("expected at least 2 groups")):
        gather(DataPlan(f"folder:{tmp_path}?test=0&val=0"), LABELS, clip_spec())


def test_without_a_train_split_the_split_that_was_used_is_named(colour_videos: Path, tmp_path: Path) -> None:
    for split, persons in (("val", range(3)), ("test", range(3, 6))):
        for label in LABELS:
            for person in persons:
                target = tmp_path / split / label / f"person{person:02d}_0.mp4"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((colour_videos / label / target.name).read_bytes())
    data = gather(DataPlan(str(tmp_path)), LABELS, clip_spec())
    assert data.provenance.split == "val"
    assert data.source is not None
    assert data.source.split == "test"


def test_unreadable_videos_are_counted_and_replaced(tmp_path: Path) -> None:
    write_colours(tmp_path, persons=6)
    broken = sorted(tmp_path.rglob("*.mp4"))[::5]
    for path in broken:
        path.write_bytes(b"no video")
    data = gather(DataPlan(f"folder:{tmp_path}?test=0.4&val=0"), LABELS, clip_spec())
    assert data.calibration.skipped.get("unreadable", 0) + data.parity.skipped.get("unreadable", 0) == len(broken)
    assert not {item.path for item in (*data.calibration.items, *data.parity.items)} & set(broken)


def test_random_clips_need_a_flag_and_are_marked(
    colours: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        data_module, "DEFAULT_DATA", f"stick-actions:{tmp_path}?train=12&val=0&test=12&size=48x32&persons=1x1x1"
    )
    with pytest.raises(CalibrationError, check=names("--accept-poor-calibration")):
        gather(DataPlan(RANDOM_DATA), ACTIONS, colours.clip)
    data = gather(DataPlan(RANDOM_DATA, calibration_clips=3, accept_poor=True), ACTIONS, colours.clip)
    assert (len(data.calibration), data.provenance.clips, data.provenance.videos) == (3, 3, 0)
    assert data.provenance.synthetic
    assert data.provenance.dataset == RANDOM_DATA
    assert len(data.parity) == 12  # agreement is still measured on real clips
    other = gather(DataPlan(RANDOM_DATA, calibration_clips=3, accept_poor=True, seed=1), ACTIONS, colours.clip)
    assert other.provenance.data_digest != data.provenance.data_digest


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=60), st.data())
@settings(max_examples=60)
def test_no_group_is_ever_shared(pairs: list[tuple[int, int]], draw: st.DataObject) -> None:
    groups = {group for _, group in pairs}
    names = draw.draw(st.lists(st.sampled_from(("train", "val", "test")), min_size=1, max_size=3, unique=True))
    home = {group: names[group % len(names)] for group in groups}
    splits: dict[str, list[VideoItem]] = {}
    for index, (label, group) in enumerate(pairs):
        splits.setdefault(home[group], []).append(VideoItem(Path(f"/v/{index}.mp4"), label, str(group)))
    dataset = Dataset("made", Path("/v"), LABELS, {name: tuple(items) for name, items in splits.items()})
    if len(groups) == 1:
        with pytest.raises(CalibrationError):
            data_module.split_for_export(dataset)
        return
    split = data_module.split_for_export(dataset)
    assert split.calibration
    assert split.evaluation
    assert not _groups(split.calibration) & _groups(split.evaluation)
