from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from edgeact.errors import InputError, VideoError
from edgeact.video import frames_digest
from edgeact.video.frame import bgr_to_rgb
from tests.messages import names


@pytest.mark.parametrize(
    ("image", "rgb"),
    [
        (np.full((2, 3), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 1), 7, np.uint8), (7, 7, 7)),
        (np.tile(np.array([1, 2, 3], np.uint8), (2, 3, 1)), (3, 2, 1)),
        (np.tile(np.array([1, 2, 3, 255], np.uint8), (2, 3, 1)), (3, 2, 1)),
    ],
)
def test_every_kind_of_camera_frame_becomes_rgb(image: Any, rgb: tuple[int, ...]) -> None:
    result = bgr_to_rgb(image)
    assert result.shape == (2, 3, 3)
    assert result.dtype == np.uint8
    assert (result == rgb).all()


@pytest.mark.parametrize("image", [np.zeros((2, 3), np.uint16), np.zeros((2, 3, 2), np.uint8), np.zeros(5, np.uint8)])
def test_other_frames_are_named(image: Any) -> None:
    with pytest.raises(VideoError, check=names("expected uint8 frames of 1, 3 or 4 channels, got")):
        bgr_to_rgb(image)


def test_digest_is_of_shape_and_values_only() -> None:
    frames = np.arange(48, dtype=np.uint8).reshape(2, 2, 4, 3)
    assert frames_digest(frames) == hashlib.sha256(b"(2, 2, 4, 3)" + bytes(range(48))).hexdigest()
    assert frames_digest(np.asfortranarray(frames)) == frames_digest(frames)
    assert frames_digest(frames.reshape(2, 4, 2, 3)) != frames_digest(frames)
    assert frames_digest(frames + 1) != frames_digest(frames)
    with pytest.raises(InputError, check=names("float32")):
        frames_digest(frames.astype(np.float32))
