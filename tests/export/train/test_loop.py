"""Training: the loss falls, and an interruption anywhere leaves no trace."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeact.errors import StorageError, WeightsError
from edgeact.export.train.frame_cache import PreparedVideos
from edgeact.export.train.loop import fit, predict_labels
from edgeact.export.train.plan import EpochResult, TrainingVideos, TrainPlan
from edgeact.progress import Callbacks
from tests.export.train.modules import Recorder, build, have_equal_states
from tests.export.videos import CLIP
from tests.messages import names

PLAN = TrainPlan(epochs=4, batch_size=8, learning_rate=2e-3)


def test_the_loss_falls_and_every_epoch_is_an_event(videos: PreparedVideos, tmp_path: Path) -> None:
    events: list[object] = []
    steps: list[tuple[str, int, int]] = []
    callbacks = Callbacks(lambda title, done, total: steps.append((title, done, total)), on_event=events.append)
    module = build()
    result = fit(module, TrainingVideos(videos, videos), PLAN, tmp_path / "state", callbacks)
    epochs = [event for event in events if isinstance(event, EpochResult)]
    assert [epoch.epoch for epoch in epochs] == [0, 1, 2, 3]
    assert result == epochs[-1]
    assert epochs[-1].loss < epochs[0].loss
    assert steps == [("training", done, 16) for done in range(1, 17)]
    assert not module.training
    predicted = predict_labels(module, videos, PLAN)
    assert result.validation_top1 == (predicted == np.array(videos.labels)).mean()


class _InterruptedError(Exception):
    pass


@pytest.mark.parametrize("name", ["msf-r3d-fsam", "cnn3d-gate"])
@pytest.mark.parametrize("place", [(1, 0), (1, 1)], ids=["between epochs", "within an epoch"])
def test_an_interrupted_training_ends_bit_identical(
    name: str, place: tuple[int, int], few_videos: PreparedVideos, tmp_path: Path
) -> None:
    plan = replace(PLAN, epochs=2, flip=True)
    whole, interrupted = build(name), build(name)
    data = TrainingVideos(few_videos)
    expected = fit(whole, data, plan, tmp_path / "whole")
    finished = [0]

    def on_event(event: object) -> None:
        assert isinstance(event, EpochResult)
        finished[0] = event.epoch + 1
        if place == (finished[0], 0):
            raise _InterruptedError

    def on_progress(_title: str, done: int, total: int) -> None:
        if place == (finished[0], done - finished[0] * total // plan.epochs):
            raise _InterruptedError

    with pytest.raises(_InterruptedError):
        fit(interrupted, data, plan, tmp_path / "state", Callbacks(on_progress, on_event=on_event))
    resumed = build(name)
    torch.manual_seed(12345)
    assert fit(resumed, data, plan, tmp_path / "state") == expected
    assert have_equal_states(resumed, whole)
    assert fit(build(name), data, plan, tmp_path / "state") == expected


def test_seeds_differ(videos: PreparedVideos, tmp_path: Path) -> None:
    first, second = build(), build()
    plan = replace(PLAN, epochs=1)
    fit(first, TrainingVideos(videos), plan, tmp_path / "first")
    fit(second, TrainingVideos(videos), replace(plan, seed=1), tmp_path / "second")
    assert not have_equal_states(first, second)


@pytest.mark.parametrize("frames", ["clip", "single"])
def test_single_frame_mode_repeats_one_frame(frames: str, videos: PreparedVideos, tmp_path: Path) -> None:
    recorder = Recorder()
    plan = replace(PLAN, epochs=1, frames=frames)  # type: ignore[arg-type]
    fit(recorder, TrainingVideos(videos, videos), plan, tmp_path / "state")
    for batch in recorder.inputs:
        is_still = (batch == batch[:, :, :1]).flatten(1).all(dim=1)
        assert bool(is_still.all() if frames == "single" else not is_still.any())


def test_clips_are_normalized_as_the_network_takes_them(videos: PreparedVideos, tmp_path: Path) -> None:
    recorder = Recorder()
    fit(recorder, TrainingVideos(videos), replace(PLAN, epochs=1), tmp_path / "state")
    low = [(0 - mean) / std for mean, std in zip(CLIP.mean, CLIP.std, strict=True)]
    high = [(1 - mean) / std for mean, std in zip(CLIP.mean, CLIP.std, strict=True)]
    for batch in recorder.inputs:
        assert batch.shape[0] <= 8
        assert batch.shape[1:] == CLIP.input_shape[1:]
        for channel in range(3):
            assert low[channel] - 1e-5 <= batch[:, channel].min() <= batch[:, channel].max() <= high[channel] + 1e-5


def test_a_loss_that_is_not_finite_stops_the_training(videos: PreparedVideos, tmp_path: Path) -> None:
    recorder = Recorder()
    nn.init.constant_(recorder.linear.weight, math.nan)
    with pytest.raises(WeightsError, check=names("loss became nan at step 1; try a lower learning rate")):
        fit(recorder, TrainingVideos(videos), PLAN, tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_a_state_that_cannot_be_written_is_an_error(videos: PreparedVideos, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        fit(Recorder(), TrainingVideos(videos), replace(PLAN, epochs=1), tmp_path / "file" / "state")
