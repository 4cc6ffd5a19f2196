from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeact.errors import InputError, StorageError, UsageError
from edgeact.video import Image, open_source, write_video
from tests.messages import names
from tests.video.clips import motion


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "video.mp4"
    written = list(motion(25, 1.0))
    write_video(path, written, 25)
    with open_source(path) as source:
        read = [frame.image for frame in source]
    assert len(read) == 25
    for before, after in zip(written, read, strict=True):
        assert before.shape == after.shape
        assert np.abs(before.astype(int) - after).mean() < 4
    assert [item.name for item in path.parent.iterdir()] == ["video.mp4"]


def broken() -> Iterator[Image]:
    yield from motion(25, 0.2)
    raise RuntimeError("the camera fell down")


@pytest.mark.parametrize(
    ("frames", "fps", "error", "message"),
    [
        ([], 25.0, InputError, ("expected at least 1 frame, got 0",)),
        ([np.zeros((8, 8, 3), np.float32)], 25.0, InputError, ("got float32",)),
        ([np.zeros((8, 8), np.uint8)], 25.0, InputError, ("got uint8 of shape (8, 8)",)),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)], 25.0, InputError, ("shape (8, 8, 3), got",)),
        ([np.zeros((8, 8, 3), np.uint8)], 0.0, UsageError, ("1 to 1000 frames per second, got 0",)),
        (broken(), 25.0, RuntimeError, ("fell down",)),
    ],
)
def test_a_failure_leaves_the_file_unchanged(
    tmp_path: Path, frames: Any, fps: float, error: type[Exception], message: tuple[str, ...]
) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"before")
    with pytest.raises(error, check=names(*message)):
        write_video(path, frames, fps)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_another_suffix_and_a_folder_that_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, check=names("'video.avi': write_video writes .mp4 files")):
        write_video(tmp_path / "video.avi", motion(25, 0.2), 25)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, check=names("cannot write")):
        write_video(tmp_path / "file" / "video.mp4", motion(25, 0.2), 25)
