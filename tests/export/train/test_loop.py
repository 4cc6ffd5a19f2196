"""Training: it learns, it can be interrupted anywhere without a trace, and it trusts no state that is not its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeact.clip import ClipSpec
from edgeact.errors import StorageError, UsageError, WeightsError
from edgeact.export.models.registry import MODELS
from edgeact.export.train import loop as train_module
from edgeact.export.train.frame_cache import PreparedVideos, prepare
from edgeact.export.train.loop import EpochResult, Progress, TrainingVideos, TrainPlan, fit, predict_labels
from tests.export.videos import CLIP, moving_bars

PLAN = TrainPlan(epochs=4, batch_size=8, learning_rate=2e-3)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> PreparedVideos:
    folder = tmp_path_factory.mktemp("videos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEACT_CACHE", str(folder / "cache"))
        return prepare(moving_bars(folder, 32), CLIP)


@pytest.fixture
def few(videos: PreparedVideos) -> PreparedVideos:
    return replace(videos, files=videos.files[:16], labels=videos.labels[:16])


def _module(seed: int = 0, name: str = "cnn3d-gate") -> nn.Module:
    torch.manual_seed(seed)
    spec = MODELS[name]
    return spec.build(spec.config(2, width=4, clip=CLIP))


def _equal(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


def test_the_loss_falls_and_every_epoch_is_reported(videos: PreparedVideos, tmp_path: Path) -> None:
    epochs: list[EpochResult] = []
    steps: list[tuple[int, int]] = []
    progress = Progress(lambda _title, done, total: steps.append((done, total)), epochs.append)
    module = _module()
    result = fit(module, TrainingVideos(videos, videos), PLAN, tmp_path / "state", progress)
    assert [epoch.epoch for epoch in epochs] == [0, 1, 2, 3]
    assert result == epochs[-1]
    assert epochs[-1].loss < epochs[0].loss
    assert steps == [(done, 16) for done in range(1, 17)]
    assert not module.training
    predicted = predict_labels(module, videos, PLAN)
    assert result.validation_top1 == (predicted == np.array(videos.labels)).mean()


class _InterruptedError(Exception):
    pass


@pytest.mark.parametrize("name", ["msf-r3d-fsam", "cnn3d-gate"])
@pytest.mark.parametrize("place", [(1, 0), (1, 1)], ids=["between epochs", "within an epoch"])
def test_an_interrupted_training_ends_bit_identical(
    name: str, place: tuple[int, int], few: PreparedVideos, tmp_path: Path
) -> None:
    plan = replace(PLAN, epochs=2, flip=True)
    whole, resumed = _module(name=name), _module(name=name)
    expected = fit(whole, TrainingVideos(few), plan, tmp_path / "whole")
    last = [0]

    def on_epoch(result: EpochResult) -> None:
        last[0] = result.epoch + 1
        if place == (last[0], 0):
            raise _InterruptedError

    def on_step(_title: str, done: int, total: int) -> None:
        if place == (last[0], done - last[0] * total // plan.epochs):
            raise _InterruptedError

    with pytest.raises(_InterruptedError):
        fit(resumed, TrainingVideos(few), plan, tmp_path / "state", Progress(on_step, on_epoch))
    fresh = _module(name=name)
    torch.manual_seed(12345)
    assert fit(fresh, TrainingVideos(few), plan, tmp_path / "state") == expected
    assert _equal(fresh, whole)
    assert fit(_module(name=name), TrainingVideos(few), plan, tmp_path / "state") == expected


def test_seeds_differ(videos: PreparedVideos, tmp_path: Path) -> None:
    one, other = _module(), _module()
    plan = replace(PLAN, epochs=1)
    fit(one, TrainingVideos(videos), plan, tmp_path / "one")
    fit(other, TrainingVideos(videos), replace(plan, seed=1), tmp_path / "other")
    assert not _equal(one, other)


@pytest.mark.parametrize("change", ["plan", "model", "weights", "labels", "clip", "videos"])
def test_the_state_of_another_training_is_refused(change: str, videos: PreparedVideos, tmp_path: Path) -> None:
    plan = replace(PLAN, epochs=1)
    fit(_module(), TrainingVideos(videos), plan, tmp_path / "state")
    module = {"model": _module(name="cnn3d"), "weights": _module(seed=9)}.get(change, _module())
    data = {
        "labels": replace(videos, labels=videos.labels[::-1]),
        "clip": replace(videos, clip=CLIP.model_copy(update={"fps": 5.0})),
        "videos": replace(videos, files=videos.files[::-1]),
    }.get(change, videos)
    wanted = replace(plan, learning_rate=1e-3) if change == "plan" else plan
    with pytest.raises(UsageError, match=r"state' belongs to a training of another model.*remove the file"):
        fit(module, TrainingVideos(data), wanted, tmp_path / "state")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _text(path: Path) -> None:
    path.write_text("not a state")


def _foreign(path: Path) -> None:
    torch.save({"epoch": 3}, path)


@pytest.mark.parametrize("damage", [_cut, _text, _foreign])
def test_a_damaged_state_says_to_remove_it(
    damage: Callable[[Path], None], videos: PreparedVideos, tmp_path: Path
) -> None:
    plan = replace(PLAN, epochs=1)
    fit(_module(), TrainingVideos(videos), plan, tmp_path / "state")
    damage(tmp_path / "state")
    with pytest.raises(WeightsError, match=r"state' is not .*; remove it to begin anew"):
        fit(_module(), TrainingVideos(videos), plan, tmp_path / "state")


class _Recorder(nn.Module):
    """Keeps what it is fed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.seen: list[Tensor] = []
        self.dtypes: set[torch.dtype] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        logits: Tensor = self.linear(x.mean(dim=(2, 3, 4)))
        self.dtypes.add(logits.dtype)
        return logits


@pytest.mark.parametrize("frames", ["clip", "single"])
def test_single_frame_mode_repeats_one_frame(
    frames: str, videos: PreparedVideos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "_is_right_in_bf16", lambda _module, _clips: True)
    recorder = _Recorder()
    plan = replace(PLAN, epochs=1, frames=frames)  # type: ignore[arg-type]
    fit(recorder, TrainingVideos(videos, videos), plan, tmp_path / "state")
    for batch in recorder.seen:
        still = (batch == batch[:, :, :1]).flatten(1).all(dim=1)
        assert bool(still.all() if frames == "single" else not still.any())


def test_clips_are_as_the_network_takes_them(videos: PreparedVideos, tmp_path: Path) -> None:
    recorder = _Recorder()
    fit(recorder, TrainingVideos(videos), replace(PLAN, epochs=1), tmp_path / "state")
    low = [(0 - mean) / std for mean, std in zip(CLIP.mean, CLIP.std, strict=True)]
    high = [(1 - mean) / std for mean, std in zip(CLIP.mean, CLIP.std, strict=True)]
    for batch in recorder.seen:
        assert batch.shape == (8, *CLIP.input_shape[1:])
        for channel in range(3):
            assert low[channel] - 1e-5 <= batch[:, channel].min() <= batch[:, channel].max() <= high[channel] + 1e-5


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_only_where_the_processor_has_it(
    supported: bool, videos: PreparedVideos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    monkeypatch.setattr(train_module, "_is_right_in_bf16", lambda _module, _clips: True)
    recorder = _Recorder()
    fit(recorder, TrainingVideos(videos, videos), replace(PLAN, epochs=1), tmp_path / "state")
    assert recorder.dtypes == {torch.bfloat16 if supported else torch.float32}


def test_bfloat16_is_given_up_where_a_convolution_is_wrong_in_it(videos: PreparedVideos, tmp_path: Path) -> None:
    class Wrong(nn.Conv3d):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y * 1.2 if y.dtype == torch.bfloat16 else y

    class Net(_Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.conv = Wrong(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.conv(x))

    net = Net()
    assert not train_module._is_right_in_bf16(net, torch.randn(2, *CLIP.input_shape[1:]))
    net.dtypes.clear()
    fit(net, TrainingVideos(videos, videos), replace(PLAN, epochs=1), tmp_path / "state")
    assert torch.float32 in net.dtypes
    assert not net.training
    assert not net.conv._forward_hooks


def test_a_loss_that_is_not_finite_stops_the_training(videos: PreparedVideos, tmp_path: Path) -> None:
    recorder = _Recorder()
    nn.init.constant_(recorder.linear.weight, math.nan)
    with pytest.raises(WeightsError, match=r"loss became nan in epoch 0; try a lower learning rate"):
        fit(recorder, TrainingVideos(videos), PLAN, tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_a_state_that_cannot_be_written_is_told(videos: PreparedVideos, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        fit(_Recorder(), TrainingVideos(videos), replace(PLAN, epochs=1), tmp_path / "file" / "state")


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"weight_decay": -1.0},
        {"label_smoothing": 1.0},
        {"warmup_fraction": 1.0},
    ],
    ids=str,
)
def test_impossible_plans_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected"):
        replace(PLAN, **changes)  # type: ignore[arg-type]


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [train_module._learning_rate(PLAN, done / 100) for done in range(101)]
    assert 0 < rates[0] < PLAN.learning_rate / 50
    assert max(rates) == rates[10] == PLAN.learning_rate
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0)


def test_channels_are_turned_for_models_of_the_other_order() -> None:
    clip = ClipSpec.model_validate({**CLIP.model_dump(), "mean": (0, 0, 0), "std": (1, 1, 1), "channel_order": "bgr"})
    frames = torch.tensor([255, 128, 0], dtype=torch.uint8).expand(1, 2, 2, 2, 3)
    assert train_module._normalized(frames, clip)[0, :, 0, 0, 0].tolist() == pytest.approx([0, 128 / 255, 1])
