"""Training from a data set: written weights and card, initial weights, refused requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgeact.calibration.datasets import LOADING_STEP
from edgeact.errors import DatasetError, UnknownNameError, UsageError, WeightsError
from edgeact.export.models.checkpoint import read_weights, write_weights
from edgeact.export.models.loading import LoadRequest, load_model
from edgeact.export.train import train as training
from edgeact.export.train.plan import EpochResult, TrainPlan
from edgeact.export.train.train import TrainRequest, train
from edgeact.progress import Callbacks
from tests.export.models.checkpoints import filled, hara
from tests.export.train.watching import InterruptedTrainingError, collecting_epochs, interrupting_after
from tests.messages import names


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"stick-actions:{tmp_path_factory.mktemp('sticks')}?train=48&val=12&test=0&size=64x48"


@pytest.fixture
def request_(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainRequest:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    plan = TrainPlan(epochs=2, batch_size=16)
    return TrainRequest("cnn3d", data, tmp_path / "w.safetensors", plan, width=4, clip_frames=4, size=32, fps=6.0)


def test_the_weights_and_their_card_are_enough_to_load_the_model(request_: TrainRequest) -> None:
    steps: dict[str, tuple[int, int]] = {}
    epochs: list[EpochResult] = []
    data = request_.data.replace("train=48", "train=36")
    fresh = replace(request_, data=data.replace("?", "/fresh?"))

    def on_progress(title: str, done: int, total: int) -> None:
        steps[title] = (done, total)

    card = train(fresh, replace(collecting_epochs(epochs), on_progress=on_progress))
    assert list(steps.items()) == [
        (LOADING_STEP, (48, 48)),
        ("decoding the train videos", (36, 36)),
        ("decoding the val videos", (12, 12)),
        ("training", (4, 4)),
        ("hashing the videos", (36, 36)),
    ]
    assert len(epochs) == 2
    assert read_weights(request_.out).card == card
    loaded = load_model("cnn3d", LoadRequest(weights=request_.out))
    assert loaded.labels == card.labels
    assert loaded.clip.input_shape == (1, 3, 4, 32, 32)
    assert card.provenance["validation_top1"] == f"{epochs[-1].validation_top1:.4f}"
    assert card.provenance["initial_weights"] == "random"
    assert (card.provenance["train_videos"], card.provenance["skipped_videos"]) == ("36", "none")
    assert not list(request_.out.parent.glob("*.training"))


@pytest.mark.slow
def test_the_same_request_resumes_an_interrupted_training(request_: TrainRequest, tmp_path: Path) -> None:
    train(request_)
    again = replace(request_, out=tmp_path / "again.safetensors")

    with pytest.raises(InterruptedTrainingError):
        train(again, interrupting_after(1))
    assert not again.out.exists()
    epochs: list[EpochResult] = []
    train(again, collecting_epochs(epochs))
    assert [result.epoch for result in epochs] == [1]
    assert again.out.read_bytes() == request_.out.read_bytes()


def test_training_starts_from_weights_and_their_card(request_: TrainRequest, tmp_path: Path) -> None:
    first = train(request_)
    plan = replace(request_.plan, epochs=1, learning_rate=1e-12)
    later = TrainRequest("cnn3d", request_.data, tmp_path / "later.safetensors", plan, init=request_.out)
    card = train(later)
    assert (card.width, card.clip) == (first.width, first.clip)
    before, after = read_weights(request_.out), read_weights(later.out)
    assert card.provenance["initial_weights"] == before.sha256
    learned = [name for name in before.tensors if "running" not in name and "batches" not in name]
    assert all(torch.allclose(before.tensors[name], after.tensors[name], atol=1e-6) for name in learned)


@pytest.mark.slow
def test_quantization_aware_training_starts_from_weights(request_: TrainRequest, tmp_path: Path) -> None:
    train(request_)
    notes: list[str] = []
    plan = replace(request_.plan, epochs=1, learning_rate=1e-4)
    later = replace(request_, out=tmp_path / "aware.safetensors", init=request_.out, plan=plan, int8=True)
    card = train(later, Callbacks(on_note=notes.append))
    assert card.provenance["rounding"] == "INT8"
    assert notes[0].startswith(
        "3 layers are fake-quantized to INT8 during training; validation top-1 before training: "
    )
    before, after = read_weights(request_.out).tensors, read_weights(later.out).tensors
    assert list(before) == list(after)
    assert any(not torch.equal(before[name], tensor) for name, tensor in after.items())
    assert load_model("cnn3d", LoadRequest(weights=later.out)).provenance["rounding"] == "INT8"


@pytest.mark.slow
def test_the_state_of_a_training_in_float_is_refused_with_int8(request_: TrainRequest, tmp_path: Path) -> None:
    train(request_)
    later = replace(request_, out=tmp_path / "later.safetensors", init=request_.out)

    with pytest.raises(InterruptedTrainingError):
        train(later, interrupting_after(1))
    with pytest.raises(UsageError, check=names("the state of another training")):
        train(replace(later, int8=True))
    with pytest.raises(UsageError, check=names("--init")):
        replace(later, init=None, int8=True)


def test_a_classifier_of_other_classes_is_replaced(request_: TrainRequest, tmp_path: Path) -> None:
    clip = replace(request_, plan=replace(request_.plan, epochs=1))
    first = train(clip)
    other = load_model("cnn3d", LoadRequest(random_weights=True, width=4, clip=first.clip, seed=5))
    card = first.model_copy(update={"labels": other.labels})
    write_weights(tmp_path / "init.safetensors", other.module, card)
    plan = replace(request_.plan, epochs=1, learning_rate=1e-12)
    train(replace(request_, plan=plan, out=tmp_path / "new.safetensors", init=tmp_path / "init.safetensors"))
    after = read_weights(tmp_path / "new.safetensors").tensors
    assert after["head.4.weight"].shape[0] == 12
    assert torch.allclose(after["conv.0.weight"], other.module.state_dict()["conv.0.weight"], atol=1e-6)


def test_training_starts_from_another_packages_checkpoint(request_: TrainRequest, tmp_path: Path) -> None:
    state = filled(hara("resnet3d-18", 4, classes=1039))
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "r3d18.pth")
    plan = replace(request_.plan, epochs=1, learning_rate=1e-12)
    notes: list[str] = []
    with_attention = replace(request_, model="resnet3d-18+eam", init=tmp_path / "r3d18.pth", plan=plan)
    card = train(with_attention, Callbacks(on_note=notes.append))
    after = read_weights(request_.out).tensors
    assert torch.allclose(after["stages.3.1.conv2.0.weight"], state["layer4.1.conv2.weight"], atol=1e-6)
    assert after["classifier.weight"].shape[0] == 12
    assert card.clip.std[0] == 0.2768
    assert [note.partition(":")[0] for note in notes] == [
        "r3d18.pth has the names of 3D-ResNets-PyTorch",
        "by its number of classes of the 2020 release, whose pixels' mean and scale are taken",
        "not in the file, new, untrained",
        "not from the file",
    ]
    assert all(note in card.provenance["initial_weights_notes"] for note in notes)


@pytest.mark.parametrize(
    ("changes", "error", "part"),
    [
        ({"out": Path("w.pt")}, UsageError, "expected --out FILE.safetensors, got 'w.pt'"),
        ({"model": "cnn3"}, UnknownNameError, "did you mean cnn3d"),
        ({"resize": (16, 16)}, UsageError, "resize (16, 16)"),
        ({"width": 6}, UsageError, "multiple of 4, got 6"),
        ({"init": Path("gone.safetensors")}, WeightsError, "do not exist"),
    ],
)
def test_impossible_requests_are_refused(
    changes: dict[str, object], error: type[Exception], part: str, request_: TrainRequest
) -> None:
    with pytest.raises(error, check=names(part)):
        train(replace(request_, **changes))  # type: ignore[arg-type]


def test_data_without_training_videos_is_refused_before_decoding(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "prepare", None)
    data = f"stick-actions:{tmp_path / 'other'}?train=0&val=12&test=0&size=64x48"
    with pytest.raises(DatasetError, check=names("expected a 'train' split")):
        train(replace(request_, data=data))
