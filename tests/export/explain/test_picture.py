"""From a video to a file: sheets and films that decode again, the same bytes twice, and what cannot be drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgeact.errors import EdgeactError, StorageError, UnknownNameError, UsageError, VideoError
from edgeact.export.explain import Picture, PictureRequest, make_picture
from edgeact.export.models.checkpoint import ModelCard, write_weights
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.registry import find_model
from edgeact.video import probe_video
from tests.export.explain.making import CLIP
from tests.export.videos import moving_bars
from tests.messages import names


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames at 24 frames/s: two clips of half a second and a rest."""
    return moving_bars(tmp_path_factory.mktemp("videos"), 1)[0].path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _weights(tmp_path_factory.mktemp("weights") / "own.safetensors", "r3d-18+eam?stages=1,2")


def _weights(path: Path, model: str) -> Path:
    torch.manual_seed(0)
    module = find_model(model).build(NetworkConfig(3, 4, CLIP.clip_frames, CLIP.crop))
    write_weights(path, module, ModelCard(model=model, width=4, labels=("left", "right", "up"), clip=CLIP))
    return path


def _made(weights: Path, video: Path, out: Path, **changes: object) -> Picture:
    return make_picture(PictureRequest(str(weights), video, out, **changes))  # type: ignore[arg-type]


def test_a_sheet_decodes_again_and_is_the_same_twice(weights: Path, video: Path, tmp_path: Path) -> None:
    picture = _made(weights, video, tmp_path / "a.png")
    assert _made(weights, video, tmp_path / "b.png").clips == picture.clips
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    image = cv2.imread(str(tmp_path / "a.png"))
    assert image is not None
    assert image.shape[1] == 20 + 160 + 4 * 140 - 4 + 70 + 20
    assert len(picture.clips) == 1
    assert [(module.stage, module.kind) for module in picture.clips[0].modules] == [
        (1, "channel attention"),
        (1, "frame attention"),
        (2, "channel attention"),
        (2, "frame attention"),
    ]
    assert picture.notes == ()


@pytest.mark.slow
def test_a_film_has_every_clip_at_the_clips_rate(weights: Path, video: Path, tmp_path: Path) -> None:
    picture = _made(weights, video, tmp_path / "a.mp4")
    info = probe_video(tmp_path / "a.mp4")
    assert [clip.start_s for clip in picture.clips] == [0.0, 0.5]
    assert info.frames == 2 * CLIP.clip_frames
    assert info.fps == pytest.approx(CLIP.fps)
    _made(weights, video, tmp_path / "b.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_start_leaves_out_what_is_before_it(weights: Path, video: Path, tmp_path: Path) -> None:
    whole = _made(weights, video, tmp_path / "a.mp4")
    rest = _made(weights, video, tmp_path / "a.png", start_s=0.5)
    assert rest.clips[0] == whole.clips[1]


def test_grad_cam_speaks_of_the_label_given(weights: Path, video: Path, tmp_path: Path) -> None:
    picture = _made(weights, video, tmp_path / "a.png", label="up")
    assert picture.clips[0].grad_cam.label == "up"


def test_a_model_without_attention_is_reported(video: Path, tmp_path: Path) -> None:
    picture = _made(_weights(tmp_path / "plain.safetensors", "r3d-18"), video, tmp_path / "a.png")
    assert picture.notes == ("'r3d-18' has no attention module; the picture shows Grad-CAM alone",)
    assert np.array(picture.clips[0].grad_cam.map).ndim == 3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), [("a.png", [(1, 1)]), ("a.mp4", [(1, 2), (2, 2)])])
def test_every_clip_is_reported(
    name: str, expected: list[tuple[int, int]], weights: Path, video: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    request = PictureRequest(str(weights), video, tmp_path / name)
    picture = make_picture(request, lambda done, total: told.append((done, total)))
    assert told == expected
    assert len(picture.clips) == len(expected)


def test_a_video_shorter_than_a_clip_is_reported(weights: Path, video: Path, tmp_path: Path) -> None:
    picture = _made(weights, video, tmp_path / "a.png", start_s=1.0)
    assert picture.notes == ("the video ends 0.25 s after the start, a clip takes 0.50 s: the last frame is repeated",)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"out": Path("a.jpg")}, UsageError, "expected a picture .png or .mp4, got 'a.jpg'"),
        ({"start_s": 9.0}, UsageError, r"expected a start within the video's 1.25 s, got 9.0 s"),
        ({"label": "rihgt"}, UnknownNameError, "unknown label 'rihgt'; did you mean right"),
        ({"video": Path("gone.mp4")}, VideoError, "gone.mp4"),
        ({"out": Path("/dev/null/a.png")}, StorageError, "cannot write"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    weights: Path, video: Path, changes: dict[str, object], error: type[EdgeactError], says: str, tmp_path: Path
) -> None:
    arguments: dict[str, object] = {"source": str(weights), "video": video, "out": tmp_path / "a.png", **changes}
    with pytest.raises(error, check=names(says)):
        make_picture(PictureRequest(**arguments))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_video_is_refused(weights: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    with pytest.raises(VideoError, check=names("broken.mp4")):
        _made(weights, broken, tmp_path / "a.png")


@pytest.mark.slow
@pytest.mark.real_video
def test_the_shipped_model_on_a_real_video(shared_data: Path, tmp_path: Path) -> None:
    video = sorted((shared_data / "ut_interaction").rglob("*.avi"))[0]
    picture = make_picture(PictureRequest("msf-r3d-fsam", video, tmp_path / "a.png"))
    assert [module.kind for module in picture.clips[0].modules] == [
        "frequency attention",
        "space-time attention",
    ] * 2
    assert len(picture.clips[0].modules[0].frequencies) == 16
