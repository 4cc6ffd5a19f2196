"""Facts about real videos that are odd in one way or another."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeact.video import probe_video


@pytest.mark.real_video
@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("decord__corrupted.mp4", "header_frames", 50),
        ("decord__corrupted.mp4", "frames", 28),
        ("decord__video_0.mov", "rotation_degrees", 0),
        ("decord__video_90.mov", "rotation_degrees", 90),
        ("decord__video_180.mov", "rotation_degrees", 180),
        ("decord__video_270.mov", "rotation_degrees", 270),
        ("mmaction2__demo.mp4", "variable_rate", False),
    ],
)
def test_oddities_of_real_files_are_reported(shared_data: Path, name: str, field: str, value: object) -> None:
    assert getattr(probe_video(shared_data / "real_clips" / name), field) == value


@pytest.mark.real_video
def test_a_frame_missing_in_the_middle_is_a_variable_rate(shared_data: Path) -> None:
    assert probe_video(shared_data / "ut_interaction" / "hug" / "14_13_1.avi").variable_rate
