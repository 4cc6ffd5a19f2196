"""The golden clip, replayed as a device would: decode, choose, prepare, run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeact.calibration.datasets import VideoItem
from edgeact.clip import ClipSpec
from edgeact.errors import VideoError
from edgeact.export.build.data import ExportData
from edgeact.export.build.golden_clip import make_golden
from edgeact.export.models.loading import LoadedModel
from edgeact.runtime.golden import decode_pixels, network_input
from edgeact.video import frames_digest, preprocess, read_clips, write_video


def _replay(video: bytes, clip: ClipSpec, folder: Path) -> np.ndarray:
    path = folder / "golden.mp4"
    path.write_bytes(video)
    (frames,) = read_clips(path, clip, (0.0,))
    return frames


def test_every_stage_is_as_stated(colours: LoadedModel, colour_data: ExportData, tmp_path: Path) -> None:
    made = make_golden(colours.module, colours.clip, colour_data.evaluation[0], "blue")
    golden = made.golden
    frames = _replay(made.members[golden.video][1], colours.clip, tmp_path)
    assert frames_digest(frames) == golden.frames_sha256
    assert frames.shape == golden.frames_shape
    np.testing.assert_allclose(frames.mean(axis=(1, 2)), golden.frames_mean, atol=1e-6)
    inputs = preprocess(frames, colours.clip)
    np.testing.assert_array_equal(made.inputs, inputs)
    channels = inputs[0].reshape(3, -1).astype(np.float64)
    np.testing.assert_allclose(channels.mean(axis=1), golden.input_mean, atol=1e-6)
    np.testing.assert_allclose(channels.std(axis=1), golden.input_std, atol=1e-6)
    assert golden.pixels is not None
    pixels = decode_pixels(made.members[golden.pixels][1], colours.clip)
    np.testing.assert_array_equal(network_input(pixels, colours.clip), inputs)
    assert len(golden.logits) == len(colours.labels)
    assert golden.label == "blue"


def test_it_is_the_same_every_time(colours: LoadedModel, colour_data: ExportData) -> None:
    item = colour_data.evaluation[0]
    first, second = (make_golden(colours.module, colours.clip, item, None) for _ in range(2))
    assert (first.golden, first.members) == (second.golden, second.members)


@pytest.mark.parametrize(("height", "width", "expected"), [(500, 642, (320, 320)), (41, 33, (40, 32))])
def test_large_frames_are_cut_to_their_centre(
    height: int, width: int, expected: tuple[int, int], colours: LoadedModel, tmp_path: Path
) -> None:
    frame = np.zeros((height // 2 * 2, width // 2 * 2, 3), np.uint8)
    frame[height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8] = 255
    write_video(tmp_path / "large.mp4", [frame] * 6, 8.0)
    made = make_golden(colours.module, colours.clip, VideoItem(tmp_path / "large.mp4", 0, "g"), None)
    frames = _replay(made.members[made.golden.video][1], colours.clip, tmp_path)
    assert frames.shape[1:3] == made.golden.frames_shape[1:3] == expected
    assert frames[0, expected[0] // 2, expected[1] // 2].min() > 200
    assert frames[0, 0, 0].max() < 50


@pytest.mark.parametrize("fps", [0.5, 1.0, 29.97, 120.0])
def test_it_holds_as_many_frames_as_a_clip_at_any_rate(
    fps: float, colour_data: ExportData, colours: LoadedModel
) -> None:
    clip = colours.clip.model_copy(update={"fps": fps})
    made = make_golden(colours.module, clip, colour_data.evaluation[0], None)
    assert made.golden.frames_shape[0] == clip.clip_frames


def test_a_video_that_cannot_be_read_is_refused(colours: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(VideoError):
        make_golden(colours.module, colours.clip, VideoItem(tmp_path / "empty.mp4", 0, "g"), None)
