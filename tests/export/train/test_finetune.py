"""Iterative pruning with fine-tuning: steps compose, an interruption leaves no trace, and provenance is complete."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgeact.calibration.datasets import VideoItem, load_dataset
from edgeact.errors import DatasetError, UsageError
from edgeact.export.models.checkpoint import read_weights
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from edgeact.export.prune import PruneRequest, PruningPlan, apply_plan, plan_pruning
from edgeact.export.prune.planning import group_sizes
from edgeact.export.train.distill import Distillation
from edgeact.export.train.finetune import FinetuneRequest, job_digest, prune_and_finetune
from edgeact.export.train.plan import EpochResult, TrainPlan
from edgeact.progress import Callbacks
from tests.export import videos
from tests.export.colours import LABELS, load_colours, write_colours
from tests.export.prune.networks import CLIP, calibrated
from tests.export.train.watching import InterruptedTrainingError, collecting_epochs, interrupting_after
from tests.messages import names

SOURCE = "tests.export.colours:colour_net"
CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{write_colours(tmp_path_factory.mktemp('colours'), persons=6)}"


@pytest.fixture
def request_(data: str, cache: Path) -> FinetuneRequest:
    plan = TrainPlan(epochs=2, batch_size=8, learning_rate=1e-3)
    prune = PruneRequest(0.5, channel_multiple=2)
    return FinetuneRequest(prune, data, steps=2, train=plan, distillation=Distillation(feature_weight=0.5))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_colours()


def _widths(module: nn.Module) -> dict[str, int]:
    return {name: len(tensor) for name, tensor in module.state_dict().items() if tensor.ndim > 1}


def _in_steps(module: nn.Module, request: PruneRequest, steps: int) -> dict[str, int]:
    """Return the widths after pruning in steps that each remove the same share of the channels left."""
    pruned, units = copy.deepcopy(module), group_sizes(module, CLIP.input_shape)
    for step in range(1, steps + 1):
        ratio = 1 - (1 - request.ratio) ** (step / steps)
        plan = plan_pruning(pruned, CLIP.input_shape, replace(request, ratio=ratio, original_sizes=units))
        apply_plan(pruned, plan)
    return _widths(pruned)


@pytest.mark.slow
@pytest.mark.parametrize("formula", ["resnet3d-18", "msf-r3d-fsam", "cnn3d-gate"])
@settings(max_examples=3)
@given(ratio=st.floats(0.1, 0.8), steps=st.integers(2, 4), multiple=st.sampled_from([1, 4]))
def test_steps_prune_to_the_widths_of_a_single_step(formula: str, ratio: float, steps: int, multiple: int) -> None:
    """Exactly without a channel multiple; else within one multiple for each part of a split."""
    request = PruneRequest(ratio, channel_multiple=multiple)
    single, several = _in_steps(calibrated(formula), request, 1), _in_steps(calibrated(formula), request, steps)
    for name, width in single.items():
        parts = 0 if multiple == 1 else 4 if "msf" in formula else 1
        assert abs(several[name] - width) <= parts * multiple, name


@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_steps_of_global_scope_compose(ratio: float) -> None:
    request = PruneRequest(ratio, scope="global")
    single, several = (_in_steps(calibrated("resnet3d-18"), request, steps) for steps in (1, 3))
    assert sum(several.values()) == pytest.approx(sum(single.values()), rel=0.06)


def test_a_ratio_of_zero_changes_nothing(model: LoadedModel, request_: FinetuneRequest, tmp_path: Path) -> None:
    plans: list[PruningPlan] = []
    request = replace(request_, prune=PruneRequest(0.0))
    out = tmp_path / "w.safetensors"
    assert prune_and_finetune(model, request, out, on_plan=plans.append) is model
    assert [plan.cuts for plan in plans] == [()]
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


def test_the_weights_record_their_lineage_and_load_again(
    model: LoadedModel, request_: FinetuneRequest, tmp_path: Path
) -> None:
    before = copy.deepcopy(model.module.state_dict())
    notes: list[str] = []
    plans: list[PruningPlan] = []
    out = tmp_path / "w.safetensors"
    tuned = prune_and_finetune(model, request_, out, Callbacks(on_note=notes.append), on_plan=plans.append)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    assert all(parameter.grad is None for parameter in model.module.parameters())
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["w.safetensors"]
    assert [len(plans), plans[0].ratio, plans[0].step] == [1, 0.5, (1, 1)]
    assert [plan.step for plan in tuned.pruning] == [(1, 2), (2, 2)]
    assert tuned.pruning[1].ratio == 0.5
    assert tuned.module.get_submodule("stem").get_parameter("weight").shape[0] == 8
    assert [note.split(":")[0] for note in notes] == [
        f"step {step} of 2, epoch {epoch} of 2" for step in (1, 2) for epoch in (1, 2)
    ]
    provenance = tuned.provenance
    assert provenance["pruned_from_weights"].split("; ")[0] == provenance["distilled_from"] == model.weights_sha256
    assert provenance["pruning_ratio"].endswith("; 0.5 (step 2 of 2)")
    assert (provenance["finetuned_on"], provenance["finetune_epochs"]) == (
        "folder, 16 train videos",
        "2 in each of 2 steps",
    )
    assert provenance["distillation"] == "temperature 4, soft loss 0.7, features 0.5"
    assert 0 <= float(provenance["validation_top1"]) <= 1
    loaded = load_model(SOURCE, LoadRequest(weights=out))
    assert (loaded.labels, loaded.clip, loaded.weights_sha256) == (LABELS, model.clip, tuned.weights_sha256)
    assert (loaded.provenance, loaded.pruning, loaded.notes) == (tuned.provenance, tuned.pruning, ())
    x = torch.randn(2, *model.clip.input_shape[1:])
    with torch.no_grad():
        assert torch.equal(loaded.module(x), tuned.module(x))


def test_fine_tuning_recovers_the_accuracy(
    model: LoadedModel, request_: FinetuneRequest, data: str, tmp_path: Path
) -> None:
    request = replace(request_, prune=replace(request_.prune, ratio=0.8), train=TrainPlan(epochs=6, batch_size=8))
    results: list[EpochResult] = []
    tuned = prune_and_finetune(model, request, tmp_path / "w.safetensors", collecting_epochs(results))
    assert sum(p.numel() for p in tuned.module.parameters()) < 0.2 * sum(p.numel() for p in model.module.parameters())
    assert results[-1].loss < results[0].loss
    assert results[-1].validation_top1 == 1.0


@pytest.mark.parametrize("importance", ["l2", "taylor"])
@pytest.mark.parametrize("place", [1, 3], ids=["in the first step", "in the second"])
def test_an_interrupted_job_ends_with_the_same_weights(
    importance: str, place: int, model: LoadedModel, request_: FinetuneRequest, tmp_path: Path
) -> None:
    request = replace(request_, prune=replace(request_.prune, importance=importance))  # type: ignore[arg-type]
    whole = prune_and_finetune(model, request, tmp_path / "whole.safetensors")
    seen: list[EpochResult] = []
    out = tmp_path / "w.safetensors"
    with pytest.raises(InterruptedTrainingError):
        prune_and_finetune(model, request, out, interrupting_after(place, seen))
    assert not out.exists()
    resumed = prune_and_finetune(model, request, out, collecting_epochs(seen))
    assert len(seen) == 4  # no epoch was trained twice
    assert resumed.weights_sha256 == whole.weights_sha256
    again = prune_and_finetune(model, request, out, collecting_epochs(seen))
    assert (len(seen), again.weights_sha256) == (4, whole.weights_sha256)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "w.safetensors", "whole.safetensors"]


def test_the_training_of_another_job_is_not_resumed(
    model: LoadedModel, request_: FinetuneRequest, tmp_path: Path
) -> None:
    """The state file of the other job is removed, as its refusal advises; its trained epochs must not be resumed."""
    request = replace(request_, steps=1)
    clean = prune_and_finetune(model, request, tmp_path / "clean.safetensors")

    out = tmp_path / "w.safetensors"
    other = replace(request, prune=replace(request.prune, importance="bn-scale"))
    with pytest.raises(InterruptedTrainingError):
        prune_and_finetune(model, other, out, interrupting_after(1))
    with pytest.raises(UsageError, check=names("remove the file to begin anew")):
        prune_and_finetune(model, request, out)
    (tmp_path / "w.pruning.safetensors").unlink()
    assert prune_and_finetune(model, request, out).weights_sha256 == clean.weights_sha256


@pytest.mark.slow
def test_a_job_is_resumed_by_another_process(model: LoadedModel, request_: FinetuneRequest, tmp_path: Path) -> None:
    """The process ends between two steps: the second is pruned and written, the first training not yet removed."""
    out = tmp_path / "w.safetensors"
    code = (
        "import os, sys; from pathlib import Path\n"
        "from edgeact.export.train import finetune\n"
        "from edgeact.export.train.finetune import *; from edgeact.export.prune import PruneRequest\n"
        "from edgeact.export.train.distill import Distillation; from edgeact.export.train.plan import TrainPlan\n"
        "from tests.export.colours import load_colours\n"
        f"request = {request_!r}\n"
        "real = finetune.write_weights\n"
        "def dying(path, module, card):\n"
        "    real(path, module, card)\n"
        "    if card.provenance['pruning_step'] == '2': os._exit(9)\n"
        "finetune.write_weights = dying\n"
        f"prune_and_finetune(load_colours(), request, Path({str(out)!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"cache", "w.pruning.safetensors", "w.step-1.training"}
    seen: list[EpochResult] = []
    prune_and_finetune(model, request_, out, collecting_epochs(seen))
    assert len(seen) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "w.safetensors"}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("change", ["model", "ratio", "steps", "plan", "teacher", "data"])
def test_the_files_of_another_job_are_refused_and_kept(
    change: str, finished: bool, model: LoadedModel, request_: FinetuneRequest, tmp_path: Path
) -> None:
    out = tmp_path / "w.safetensors"
    request = replace(request_, steps=1, train=replace(request_.train, epochs=1))

    if finished:
        prune_and_finetune(model, request, out)
    else:
        with pytest.raises(InterruptedTrainingError):
            prune_and_finetune(model, request, out, interrupting_after(1))
    held = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert held
    other = {
        "ratio": replace(request, prune=replace(request.prune, ratio=0.4)),
        "steps": replace(request, steps=2),
        "plan": replace(request, train=replace(request.train, epochs=2)),
        "teacher": replace(request, distillation=Distillation(2.0)),
        "data": replace(request, data=f"{request.data}?val=0.4"),
    }.get(change, request)
    another = replace(model, weights_sha256="0" * 64) if change == "model" else model
    with pytest.raises(UsageError, check=names("holds weights of another pruning")):
        prune_and_finetune(another, other, out)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == held


def test_a_pruned_registry_model_is_pruned_again(data: str, request_: FinetuneRequest, tmp_path: Path) -> None:
    unpruned = load_model(
        "cnn3d-gate", LoadRequest(random_weights=True, labels=LABELS, width=8, clip_frames=4, size=32, fps=8.0)
    )
    request = replace(request_, steps=1, prune=PruneRequest(0.4))
    first = prune_and_finetune(replace(unpruned, trained=True), request, tmp_path / "first.safetensors")
    second = prune_and_finetune(
        load_model("cnn3d-gate", LoadRequest(weights=tmp_path / "first.safetensors")),
        request,
        tmp_path / "w.safetensors",
    )
    loaded = load_model("cnn3d-gate", LoadRequest(weights=tmp_path / "w.safetensors"))
    assert len(loaded.pruning) == 2
    assert loaded.provenance["pruned_from_weights"] == f"{unpruned.weights_sha256}; {first.weights_sha256}"
    assert loaded.provenance["distilled_from"] == first.weights_sha256
    assert _widths(loaded.module) == _widths(second.module)
    card = read_weights(tmp_path / "w.safetensors").card
    assert card is not None
    assert card.width == 8


def test_videos_that_measure_accuracy_and_their_groups_are_not_trained_on(
    model: LoadedModel, request_: FinetuneRequest, data: str, tmp_path: Path
) -> None:
    train = load_dataset(data).splits["train"]
    shared = train[0].group
    notes: list[str] = []
    request = replace(request_, steps=1, train=replace(request_.train, epochs=1))
    out = tmp_path / "w.safetensors"
    tuned = prune_and_finetune(model, request, out, Callbacks(on_note=notes.append), evaluation_videos=train[:1])
    left_out = sum(item.group == shared for item in train)
    assert notes[0].startswith(f"{left_out} train videos are not trained on: their groups measure accuracy")
    assert tuned.provenance["finetuned_on"] == f"folder, {len(train) - left_out} train videos"
    with pytest.raises(DatasetError, check=names("share a group with videos that measure accuracy")):
        prune_and_finetune(model, request, tmp_path / "none.safetensors", evaluation_videos=train)
    elsewhere = [VideoItem(tmp_path / "else", 0, shared)]
    prune_and_finetune(model, request, tmp_path / "all.safetensors", evaluation_videos=elsewhere)


def test_impossible_requests_are_refused(
    model: LoadedModel, request_: FinetuneRequest, tmp_path: Path, cache: Path
) -> None:
    out = tmp_path / "w.safetensors"
    untrained = write_colours(tmp_path / "only" / "test", persons=2).parent
    with pytest.raises(DatasetError, check=names("expected a 'train' split to fine-tune on, got test")):
        prune_and_finetune(model, replace(request_, data=f"folder:{untrained}?val=0"), out)
    with pytest.raises(DatasetError, check=names("labels the model does not know")):
        prune_and_finetune(replace(model, labels=("a", "b", "c", "d")), request_, out)
    with pytest.raises(UsageError, check=names("has random weights")):
        prune_and_finetune(replace(model, trained=False), request_, out)
    with pytest.raises(UsageError, check=names("expected a path FILE.safetensors")):
        prune_and_finetune(model, request_, tmp_path / "w.pt")
    with pytest.raises(UsageError, check=names("pattern 'bodies.*'")):
        prune_and_finetune(model, replace(request_, prune=PruneRequest(0.5, ratios={"bodies.*": 0.2})), out)
    with pytest.raises(UsageError, check=names("at least 1 step")):
        replace(request_, steps=0)
    assert not out.exists()


def test_taylor_importance_uses_gradients(model: LoadedModel, request_: FinetuneRequest, tmp_path: Path) -> None:
    plans: list[PruningPlan] = []
    request = replace(request_, steps=1, train=replace(request_.train, epochs=1), prune=PruneRequest(0.5))
    for importance in ("l2", "taylor"):
        changed_request = replace(request, prune=replace(request.prune, importance=importance))
        prune_and_finetune(model, changed_request, tmp_path / f"{importance}.safetensors", on_plan=plans.append)
    by_weights, by_gradients = plans
    assert by_gradients.importance == "taylor"
    assert by_gradients.parameters == by_weights.parameters
    assert by_gradients.cuts != by_weights.cuts


def test_the_digest_of_a_job_is_that_of_earlier_releases(model: LoadedModel) -> None:
    """Weights and state files hold it."""
    fixed = replace(model, weights_sha256="w" * 64, clip=videos.CLIP, labels=("a", "b"))
    prune = PruneRequest(0.5, ratios={"stages.*": 0.3}, importance="taylor")
    request = FinetuneRequest(prune, "folder:/clips", steps=2)
    assert job_digest(fixed, request, "data") == "d9f252aba780460a"
