"""Options and clips asked for: possible ones come out as stated, others are refused with what was got."""

from __future__ import annotations

import pytest

from edgeact.errors import UsageError
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.registry import MODELS
from edgeact.export.models.spec import Pixels, resized_clip
from tests.messages import names

CLIP = MODELS["msf-r3d-fsam"].clip


def test_options_are_the_papers_unless_given() -> None:
    spec = MODELS["msf-r3d-fsam"]
    assert spec.config(101) == NetworkConfig(101, 64, 8, (112, 112))
    clip = resized_clip(spec.clip, clip_frames=16, size=56)
    assert spec.config(5, width=16, clip=clip).input_shape == (1, 3, 16, 56, 56)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((0, 64, 8, (112, 112)), ("0 classes",)),
        ((5, 64, 0, (112, 112)), ("0 frames",)),
        ((5, 64, 8, (112, 15)), ("112x15 pixels",)),
        ((5, 0, 8, (112, 112)), ("multiple of 4, got 0",)),
        ((5, 18, 8, (112, 112)), ("multiple of 4, got 18",)),
    ],
)
def test_impossible_options_are_refused(options: tuple[int, int, int, tuple[int, int]], says: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, check=names(*says)):
        NetworkConfig(*options)


def test_resize_keeps_its_ratio_to_the_crop_unless_given() -> None:
    half = resized_clip(CLIP, size=56)
    assert (half.crop, half.resize) == ((56, 56), (64, 86))
    assert resized_clip(CLIP, size=56, resize=(60, 70)).resize == (60, 70)
    assert resized_clip(CLIP) == CLIP
    assert resized_clip(CLIP, fps=12.5).fps == 12.5


def test_pixels_are_scaled_as_stated_and_else_as_before() -> None:
    stated = resized_clip(CLIP, pixels=Pixels(mean=(0.5, 0.4, 0.3), channel_order="bgr"))
    assert (stated.mean, stated.std, stated.channel_order) == ((0.5, 0.4, 0.3), CLIP.std, "bgr")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": 0}, ("must be", "within 1..8192 pixels")),
        ({"resize": (60, 70)}, ("crop must fit into resize (60, 70), got (112, 112)",)),
        ({"fps": -1.0}, ("fps: ",)),
        ({"clip_frames": 0}, ("clip_frames: ",)),
        ({"pixels": Pixels(std=(0.5, 0.0, 0.5))}, ("std must be positive",)),
        ({"pixels": Pixels(mean=(0.5, 0.5))}, ("mean: ",)),
        ({"pixels": Pixels(channel_order="grb")}, ("channel_order: ",)),
    ],
)
def test_impossible_clips_are_refused_naming_the_field(changes: dict[str, object], says: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, check=names(*says)):
        resized_clip(CLIP, **changes)  # type: ignore[arg-type]
