"""Sheets and films: every frame, map and bar has its place, for any network and clip."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from edgeact.export.explain.clip_view import view_clip
from edgeact.export.explain.drawing import LESS, MORE, drawing
from edgeact.export.explain.film import film
from edgeact.export.explain.panels import MapPanel, panels_of
from edgeact.export.explain.sheet import CAPTION, MARGIN, sheet
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.registry import MODELS
from edgeact.export.models.spec import resized_clip
from edgeact.video import Image
from tests.export.explain.making import CLIP, FRAMES, Fixed, Probe, loaded, noise


@pytest.fixture(autouse=True, scope="module")
def _style() -> Iterator[None]:
    with drawing():
        yield


def _colored(image: Image, color: str) -> list[int]:
    rgb = np.round(np.array(to_rgb(color)) * 255).astype(np.uint8)
    counts: list[int] = (image == rgb).all(axis=2).sum(axis=0).tolist()
    return counts


def test_frame_weights_stand_as_bars_under_their_frames() -> None:
    module = Probe(Fixed(torch.tensor(FRAMES).view(1, 1, 4, 1, 1)))
    image = sheet(view_clip(loaded(module), noise(), 0.0), "probe", "noise").pixels()
    more, less = _colored(image, MORE), _colored(image, LESS)
    first = MARGIN + CAPTION
    cell = 140  # 136 pixels and a gap
    tallest = [max(more[first + index * cell :][:130]) - max(less[first + index * cell :][:130]) for index in range(4)]
    assert np.argsort(tallest).tolist() == np.argsort(FRAMES).tolist()
    assert tallest[1] == pytest.approx(34, abs=1)
    assert tallest[0] < tallest[2] < 0 == tallest[3]


def test_a_network_without_attention_shows_its_grad_cam() -> None:
    seen = view_clip(loaded(Probe()), noise(), 0.0)
    (only,) = panels_of(seen)
    assert isinstance(only, MapPanel)
    assert (only.lines[0], only.bounds) == ("Grad-CAM", (0.0, 1.0))
    assert float(only.values.max()) == 1


def test_a_grad_cam_of_nothing_can_be_drawn() -> None:
    seen = view_clip(loaded(Probe()), noise(), 0.0)
    nothing = dataclasses.replace(seen, cam=dataclasses.replace(seen.cam, map=np.zeros((1, 2, 2), np.float32)))
    assert sheet(nothing, "probe", "noise").pixels().ndim == 3


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 3, 16, 33])
@pytest.mark.parametrize("crop", [(32, 32), (24, 48)])
def test_any_clip_fits_on_a_sheet_and_in_a_film(frames: int, crop: tuple[int, int]) -> None:
    clip = CLIP.model_copy(update={"clip_frames": frames, "resize": crop, "crop": crop})
    model = dataclasses.replace(loaded(Probe(Fixed(torch.rand(1, 6, 1, 1, 1)))), clip=clip)
    seen = view_clip(model, noise(frames, 40), 0.0)
    image = sheet(seen, "probe", "noise").pixels()
    assert image.dtype == np.uint8
    assert image.shape[1] < 1800
    shown = list(film(seen, "probe", "noise"))
    assert len(shown) == frames
    assert len({one.shape for one in shown}) == 1
    assert all(side % 2 == 0 for side in shown[0].shape[:2])


def test_the_frame_that_plays_stands_out_in_the_bars() -> None:
    module = Probe(Fixed(torch.tensor(FRAMES).view(1, 1, 4, 1, 1)))
    shown = list(film(view_clip(loaded(module), noise(), 0.0), "probe", "noise"))
    places = [np.flatnonzero(np.array(_colored(one, MORE)) + _colored(one, LESS)) for one in shown]
    starts = [int(place[0]) for place in places[:3]]
    assert starts == sorted(set(starts))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_the_same_sheet_twice(name: str) -> None:
    clip = resized_clip(MODELS[name].clip, clip_frames=4, size=48)
    torch.manual_seed(0)
    module = MODELS[name].build(NetworkConfig(3, 4, 4, (48, 48)))
    model = dataclasses.replace(loaded(module), clip=clip)
    first, second = (sheet(view_clip(model, noise(), 0.0), name, "noise") for _ in range(2))
    assert first.png() == second.png()
