"""Prepared videos shared by the training tests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeact.export.train.frame_cache import PreparedVideos, prepare
from tests.export.videos import CLIP, moving_bars


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> PreparedVideos:
    """Return 32 videos of bars that move left or right."""
    folder = tmp_path_factory.mktemp("videos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEACT_CACHE", str(folder / "cache"))
        return prepare(moving_bars(folder, 32), CLIP)


@pytest.fixture
def few_videos(videos: PreparedVideos) -> PreparedVideos:
    """Return the first 16 videos of `videos`."""
    return replace(videos, files=videos.files[:16], labels=videos.labels[:16])
