"""The state file: only the training that it belongs to continues from it, also if an earlier release wrote it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeact.errors import UsageError, WeightsError
from edgeact.export.train.frame_cache import PreparedVideos
from edgeact.export.train.loop import fit
from edgeact.export.train.plan import TrainingVideos, TrainPlan
from edgeact.export.train.training_state import training_fingerprint
from tests.export.train.modules import Recorder, build, have_equal_states
from tests.export.train.watching import InterruptedTrainingError, interrupting_after
from tests.export.videos import CLIP
from tests.messages import names

PLAN = TrainPlan(epochs=1, batch_size=8)
FINGERPRINT = "373ee67a785e7fd0e0ee79018dd0e85b9d11ca66b06355b730d9f7449dd286a0"


@pytest.mark.parametrize("change", ["plan", "model", "weights", "labels", "clip", "videos"])
def test_the_state_of_another_training_is_refused(change: str, videos: PreparedVideos, tmp_path: Path) -> None:
    fit(build(), TrainingVideos(videos), PLAN, tmp_path / "state")
    module = {"model": build("cnn3d"), "weights": build(seed=9)}.get(change, build())
    data = {
        "labels": replace(videos, labels=videos.labels[::-1]),
        "clip": replace(videos, clip=CLIP.model_copy(update={"fps": 5.0})),
        "videos": replace(videos, files=videos.files[::-1]),
    }.get(change, videos)
    plan = replace(PLAN, learning_rate=1e-3) if change == "plan" else PLAN
    with pytest.raises(
        UsageError, check=names("state' is the state of another training", "remove the file to begin anew")
    ):
        fit(module, TrainingVideos(data), plan, tmp_path / "state")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _write_text(path: Path) -> None:
    path.write_text("not a state")


def _write_other_keys(path: Path) -> None:
    torch.save({"epoch": 3}, path)


@pytest.mark.parametrize("damage", [_truncate, _write_text, _write_other_keys])
def test_a_damaged_state_is_refused_with_advice(
    damage: Callable[[Path], None], videos: PreparedVideos, tmp_path: Path
) -> None:
    fit(build(), TrainingVideos(videos), PLAN, tmp_path / "state")
    damage(tmp_path / "state")
    with pytest.raises(WeightsError, check=names("state' is not", "; remove it to begin anew")):
        fit(build(), TrainingVideos(videos), PLAN, tmp_path / "state")


def test_a_state_of_an_earlier_release_continues_bit_identical(few_videos: PreparedVideos, tmp_path: Path) -> None:
    """Their optimizers have no initial rate: the learning rate was set by hand."""
    plan, data = replace(PLAN, epochs=3), TrainingVideos(few_videos)
    whole, interrupted = build(), build()
    expected = fit(whole, data, plan, tmp_path / "whole")
    with pytest.raises(InterruptedTrainingError):
        fit(interrupted, data, plan, tmp_path / "state", interrupting_after(1))
    state = torch.load(tmp_path / "state", weights_only=True)
    for group in state["optimizer"]["param_groups"]:
        del group["initial_lr"]
    torch.save(state, tmp_path / "state")
    resumed = build()
    assert fit(resumed, data, plan, tmp_path / "state") == expected
    assert have_equal_states(resumed, whole)


def test_the_fingerprint_is_that_of_earlier_releases(tmp_path: Path) -> None:
    """A changed digest, for example by a renamed field of `TrainPlan`, would refuse every state on disk."""
    np.save(tmp_path / "frames.npy", np.arange(2 * 36 * 40 * 3, dtype=np.uint8).reshape(2, 36, 40, 3))
    videos = PreparedVideos(CLIP, (tmp_path / "frames.npy",), (1,))
    module = Recorder()
    for parameter in module.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    assert training_fingerprint(module, videos, TrainPlan(), ("teacher", "linear")) == FINGERPRINT
