"""Files from the wild: damaged, rotated, out of order, with odd headers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeact.video import ClipBuffer, open_source, preprocess, probe_video, read_clips, window_starts
from tests.video.clips import make_clip

pytestmark = pytest.mark.real_video

REAL = {  # name: (frames that decode, width, height, duration in seconds)
    "real_clips/decord__corrupted.mp4": (28, 1280, 720, 2.8),  # the header says 50
    "real_clips/decord__flipping_a_pancake.mkv": (310, 426, 240, 10.333),  # the header says 311
    "real_clips/decord__unordered.mov": (4, 50, 50, 0.125),
    "real_clips/decord__video_0.mov": (3, 568, 320, 0.1),
    "real_clips/decord__video_180.mov": (3, 568, 320, 0.1),
    "real_clips/decord__video_270.mov": (3, 320, 568, 0.1),
    "real_clips/decord__video_90.mov": (3, 320, 568, 0.1),
    "real_clips/mmaction2__demo.mp4": (280, 340, 256, 10.0),
    "real_clips/mmaction2__test.avi": (164, 320, 240, 6.56),  # its last frame has no time stamp
    "ut_interaction/handshake/17_13_0.avi": (119, 400, 256, 3.967),  # the header says 120
    "ut_interaction/handshake/17_3_0.avi": (121, 448, 300, 4.033),  # the header says 123
    "ut_interaction/handshake/18_14_0.avi": (129, 292, 256, 4.334),  # one frame is missing in the middle
}


@pytest.mark.parametrize("name", REAL)
def test_every_file_is_probed_cut_and_preprocessed(shared_data: Path, name: str) -> None:
    path, clip, facts = shared_data / name, make_clip(), REAL[name]
    info = probe_video(path)
    assert (info.frames, info.width, info.height) == facts[:3]
    assert info.duration_s == pytest.approx(facts[3], abs=1e-3)
    starts = window_starts(info.duration_s, clip)
    clips = list(read_clips(path, clip, starts))
    assert len(clips) == len(starts) == max(1, int(info.duration_s + 0.5 / clip.fps))
    for frames in clips:
        assert frames.shape == (8, info.height, info.width, 3)
        assert np.isfinite(preprocess(frames, clip)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_streamed_file_gives_the_windows_of_the_file(shared_data: Path, name: str) -> None:
    path, clip = shared_data / name, make_clip()
    buffer = ClipBuffer(clip, 0.5)
    with open_source(path) as source:
        windows = [window for frame in source for window in buffer.push(frame)]
    windows += buffer.finish()
    starts = window_starts(probe_video(path).duration_s, clip, 0.5)
    assert [window.start_s for window in windows] == pytest.approx(starts)
    for window, frames in zip(windows, read_clips(path, clip, starts), strict=True):
        np.testing.assert_array_equal(np.stack(window.frames), frames)


def test_no_file_is_missing_from_the_table(shared_data: Path) -> None:
    here = {path.name for path in (shared_data / "real_clips").iterdir() if path.suffix != ".md"}
    assert here == {Path(name).name for name in REAL if name.startswith("real_clips/")}


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(shared_data: Path, degrees: int) -> None:
    """The frame equals the stored frame, decoded without rotation, rotated as the container requests."""
    path = shared_data / f"real_clips/decord__video_{degrees}.mov"
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    assert capture.get(cv2.CAP_PROP_ORIENTATION_META) == degrees
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    stored = capture.read()[1]
    capture.release()
    turned = np.rot90(stored[..., ::-1], k=-degrees // 90)
    with open_source(path) as source:
        np.testing.assert_array_equal(next(source).image, turned)
