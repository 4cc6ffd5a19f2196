"""One clip looked at: the frames the network saw, the classes it names, and numbers that JSON can hold."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from edgeact.clip import ClipSpec
from edgeact.export.explain.clip_view import view_clip
from tests.export.explain.making import CLIP, FRAMES, Fixed, Probe, loaded, noise


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_the_frames_shown_are_the_pixels_the_network_saw(order: str) -> None:
    model = loaded(Probe())
    clip = ClipSpec.model_validate({**CLIP.model_dump(), "channel_order": order, "resize": (40, 40)})
    raw = noise(size=40)
    seen = view_clip(type(model)(**{**vars(model), "clip": clip}), raw, 0.0)
    np.testing.assert_array_equal(seen.frames, raw[:, 4:36, 4:36])


def test_the_best_classes_are_those_of_the_network() -> None:
    model, raw = loaded(Probe()), noise()
    seen = view_clip(model, raw, 1.5)
    scores = torch.softmax(torch.from_numpy(seen.cam.logits), 0).numpy()
    assert seen.ranking[0] == seen.explained
    assert [ranked.label for ranked in seen.ranking] == [model.labels[index] for index in np.argsort(-scores)]
    assert [seen.time_s(frame) for frame in (0, 2)] == [1.5, 1.75]


def test_grad_cam_is_of_the_label_asked_for() -> None:
    model, raw = loaded(Probe()), noise()
    for index, label in enumerate(model.labels):
        seen = view_clip(model, raw, 0.0, label)
        assert (seen.explained.label, seen.cam.index) == (label, index)
        assert seen.explained in seen.ranking


def test_every_frame_has_the_activations_that_cover_it() -> None:
    seen = view_clip(loaded(Probe()), noise(), 0.0)
    halves = np.array([1, 2], np.float32)
    assert [float(seen.at_frame(halves, frame)) for frame in range(4)] == [1, 1, 2, 2]
    assert [float(seen.at_frame(halves[:1], frame)) for frame in range(4)] == [1] * 4


def test_of_equal_modules_in_a_stage_the_last_is_shown_and_all_are_reported() -> None:
    gates = [Fixed(torch.tensor(FRAMES).roll(index).view(1, 1, 4, 1, 1)) for index in range(3)]
    alone = Fixed(torch.full((1, 1, 1, 1, 1), 0.5))
    seen = view_clip(loaded(Probe(*gates, alone)), noise(), 0.0)
    assert [module.path for module in seen.drawn_modules] == ["gates.2"]
    document = json.loads(json.dumps(dataclasses.asdict(seen.document()), allow_nan=False))
    assert [module["path"] for module in document["modules"]] == ["gates.0", "gates.1", "gates.2", "gates.3"]
    assert document["modules"][0]["frames"] == pytest.approx(FRAMES)
    assert np.array(document["grad_cam"]["map"]).shape == (4, 32, 32)
