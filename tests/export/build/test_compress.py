"""Exports that prune first: what is compared with what, what is recorded, and what nothing changes."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from edgeact.bundle import Bundle, open_bundle
from edgeact.cli.inspect import describe
from edgeact.errors import DatasetError, ParityError, UsageError
from edgeact.export.build.compress import PlanReady
from edgeact.export.build.compression import Compression
from edgeact.export.build.data import DataPlan
from edgeact.export.build.recipe import RECIPE_MEMBER
from edgeact.export.models.checkpoint import ModelCard, write_weights
from edgeact.export.models.loading import LoadRequest, load_model
from edgeact.export.prune import PruneRequest
from edgeact.export.train.plan import TrainPlan
from edgeact.phrases import phrase
from edgeact.progress import Callbacks
from edgeact.reasons import AfterPruning, FineTuned, ParityReference, Pruned
from edgeact.runtime import get_backend, load
from tests.export.build.exporting import Case, export
from tests.export.colours import LABELS, ColourNet
from tests.export.prune.networks import CLIP
from tests.messages import names

REFERENCE, UNPRUNED = "pytorch", "pytorch-unpruned"
TRAIN = TrainPlan(epochs=4, batch_size=8, learning_rate=2e-3)


@pytest.fixture
def request_for(colour_videos: Path, tmp_path: Path, cache: Path) -> Case:
    """An export of the colour network, half of it pruned and fine-tuned."""
    data = str(colour_videos)
    return Case(
        target="cpu",
        out=tmp_path / "made.edgeact",
        source=ColourNet(),
        load=LoadRequest(labels=LABELS, clip_frames=4, size=32, fps=8.0),
        precision="fp32",
        data=DataPlan(data),
        threads=1,
        compression=Compression(PruneRequest(0.5), 4, f"folder:{data}", train=TRAIN),
    )


def _compression(request: Case) -> Compression:
    assert request.compression is not None
    return request.compression


def _members(bundle: Bundle) -> dict[str, bytes]:
    """All members but the recipe, which differs if the same artifacts are made another way."""
    paths = [member.path for member in bundle.manifest.members if member.path != RECIPE_MEMBER]
    return {path: bundle.read(path) for path in paths}


@pytest.mark.slow
def test_the_bundle_holds_the_pruned_model_and_counts_its_loss_from_the_unpruned(request_for: Case) -> None:
    events: list[object] = []
    steps: list[str] = []
    callbacks = Callbacks(lambda title, *_: steps.append(title), on_event=events.append)
    bundle = export(request_for, callbacks)
    (event,) = (each for each in events if isinstance(each, PlanReady))
    plan, latency = event.plan, event.latency
    assert latency is not None
    assert latency.measured
    assert steps.index("latency") < steps.index("training") < steps.index("converting to ONNX")
    info, measured = bundle.manifest.model, bundle.measurements
    assert info.parameters == plan.parameters[1] < plan.parameters[0]
    assert info.provenance["pruned_from_weights"] == info.provenance["distilled_from"] == plan.weights_sha256
    assert info.provenance["pruning_ratio"] == "0.5"
    assert measured is not None
    rows = {row.artifact: row for row in measured.rows}
    assert [rows[name].verdict for name in (REFERENCE, UNPRUNED)] == ["reference", "reference"]
    assert rows[UNPRUNED].size_bytes > rows[REFERENCE].size_bytes
    assert rows[UNPRUNED].typed_reason == ParityReference(role="accuracy")
    assert rows[UNPRUNED].accuracy
    assert rows[UNPRUNED].latency
    for row in measured.rows:
        assert (row.drop is None) == (row.artifact == UNPRUNED)
        assert row.drop is None or row.drop.count == rows[UNPRUNED].accuracy[1].count
    pruned, tuned, after = (each for each in measured.decisions if isinstance(each, Pruned | FineTuned | AfterPruning))
    assert isinstance(pruned, Pruned)
    assert (pruned.ratio, pruned.importance, pruned.scope, pruned.channel_multiple) == ("0.5", "l2", "layer", 4)
    assert isinstance(tuned, FineTuned)
    assert tuned.data.startswith("folder")
    assert after == AfterPruning(case="fine-tuned")
    assert bundle.manifest.decisions == tuple(map(phrase, measured.decisions))
    screen = Console(width=300, record=True, file=io.StringIO())
    screen.print(describe(bundle))
    shown = screen.export_text()
    assert "pruning_ratio=0.5" in shown
    assert "against the unpruned model on the same" in shown


@pytest.mark.slow
def test_its_weights_are_beside_it_and_make_it_again(request_for: Case) -> None:
    first = export(request_for)
    weights = request_for.out.with_name("made.pruned.safetensors")
    notes: list[str] = []
    again = export(request_for, Callbacks(on_note=notes.append))
    assert any("is finished and is loaded" in note for note in notes)
    assert again.digest == first.digest
    made = _members(again)
    later = replace(request_for, compression=None, load=replace(request_for.load, weights=weights), source=ColourNet())
    bundle = export(later)
    assert _members(bundle) == made
    assert bundle.manifest.model.provenance == first.manifest.model.provenance
    assert bundle.measurements is not None
    assert AfterPruning(case="pruned-before") in bundle.measurements.decisions
    with pytest.raises(UsageError, check=names("made.pruned.safetensors' holds weights of another pruning")):
        export(replace(request_for, compression=replace(_compression(request_for), prune=PruneRequest(0.25))))


@pytest.mark.slow
@pytest.mark.parametrize("tuned", [True, False])
def test_a_ratio_of_zero_changes_nothing_through_the_whole_path(tuned: bool, request_for: Case, tmp_path: Path) -> None:
    request_for = replace(request_for, target="jetson")
    plain = export(replace(request_for, compression=None, out=tmp_path / "plain.edgeact"))
    wanted = replace(_compression(request_for), prune=PruneRequest(0.0))
    notes: list[str] = []
    request = replace(request_for, compression=wanted if tuned else replace(wanted, finetune=None))
    bundle = export(request, Callbacks(on_note=notes.append))
    assert _members(bundle) == _members(plain)
    assert bundle.manifest.model == plain.manifest.model
    assert phrase(AfterPruning(case="nothing-pruned")) in notes
    assert not list(request_for.out.parent.glob("*.safetensors"))
    assert bundle.measurements is not None
    assert UNPRUNED not in {row.artifact for row in bundle.measurements.rows}


@pytest.mark.slow
def test_without_training_the_loss_is_reported_and_counts_from_the_pruned_model(request_for: Case) -> None:
    notes: list[str] = []
    prune = PruneRequest(0.9, max_ratio=0.95)
    request = replace(request_for, compression=Compression(prune, 1))
    bundle = export(request, Callbacks(on_note=notes.append))
    assert phrase(AfterPruning(case="not-fine-tuned")) in notes
    assert bundle.measurements is not None
    rows = {row.artifact: row for row in bundle.measurements.rows}
    assert rows[UNPRUNED].typed_reason == ParityReference(role="unpruned")
    assert rows[REFERENCE].drop is not None
    assert rows["openvino-fp32"].accuracy == rows[REFERENCE].accuracy
    assert bundle.manifest.model.provenance["validation_top1"] == "not measured after pruning"


@pytest.mark.slow
def test_a_loss_against_the_unpruned_model_keeps_the_bundle_from_being_made(request_for: Case) -> None:
    """One step at a rate that ruins it: parity with the pruned model holds, accuracy does not."""
    ruin = TrainPlan(epochs=1, batch_size=4, learning_rate=1.0, warmup_fraction=0.0)
    wanted = replace(_compression(request_for), prune=PruneRequest(0.9), channel_multiple=1, train=ruin)
    with pytest.raises(ParityError, match=r"loses \d+\.\d points of top-1.*prune less \(--prune") as caught:
        export(replace(request_for, compression=wanted))
    assert "does not agree" not in str(caught.value)
    assert not request_for.out.exists()
    assert request_for.out.with_name("made.pruned.safetensors").exists()


@pytest.mark.slow
def test_what_cannot_be_is_refused_before_anything_is_written(request_for: Case, tmp_path: Path) -> None:
    wanted = _compression(request_for)
    random = replace(request_for.load, random_weights=True)
    for changes, error, words in (
        ({"compression": replace(wanted, finetune="folder:/no/such")}, DatasetError, "there is no folder"),
        ({"load": random}, UsageError, "has random weights, from which no student can be distilled"),
        (
            {"compression": replace(wanted, prune=PruneRequest(0.5, ratios={"x.*": 0.5}))},
            UsageError,
            "layer pattern 'x",
        ),
    ):
        with pytest.raises(error, check=names(words)):
            export(replace(request_for, **changes))
    with pytest.raises(UsageError, check=names("takes gradients from training clips; give them with --finetune DATA")):
        Compression(PruneRequest(0.5, importance="taylor"))
    with pytest.raises(UsageError, check=names("2 pruning steps need fine-tuning between them; give --finetune DATA")):
        Compression(PruneRequest(0.5), steps=2)
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


@pytest.mark.slow
@pytest.mark.parametrize("formula", ["msf-r3d-fsam", "cnn3d-gate"])
def test_pruned_and_tuned_weights_reload_and_become_what_all_three_backends_take(
    formula: str, colour_videos: Path, tmp_path: Path, cache: Path
) -> None:
    """OpenVINO and ONNX Runtime run them here; TensorRT for RTX compiles them."""
    spec_clip = CLIP.model_copy(update={"fps": 8.0})
    loaded = load_model(formula, LoadRequest(random_weights=True, labels=LABELS, width=8, clip=spec_clip))
    card = ModelCard(model=formula, width=8, labels=LABELS, clip=spec_clip)
    write_weights(tmp_path / "w.safetensors", loaded.module, card)
    train = TrainPlan(epochs=2, batch_size=8, learning_rate=2e-3)
    wanted = Compression(PruneRequest(0.4, scope="global"), 1, f"folder:{colour_videos}", steps=2, train=train)
    request = Case(
        target="cpu",
        out=tmp_path / "made.edgeact",
        source=formula,
        load=LoadRequest(weights=tmp_path / "w.safetensors"),
        precision="fp32",
        data=DataPlan(str(colour_videos), evaluation_videos=8),
        max_drop_points=100,
        threads=1,
        compression=wanted,
    )
    bundle = export(request)
    weights = tmp_path / "made.pruned.safetensors"
    tuned = load_model(formula, LoadRequest(weights=weights))
    assert bundle.manifest.model.weights_sha256 == tuned.weights_sha256
    clip = torch.randn(tuned.clip.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tuned.module(clip).numpy()[0]
    native = {"native"} if get_backend("native").why_unavailable() is None else set()
    assert {artifact.backends[0] for artifact in bundle.manifest.artifacts} - native == {"openvino", "onnxruntime"}
    for artifact in bundle.manifest.artifacts:
        with load(bundle.path, artifact=artifact.name, threads=1) as recognizer:
            assert abs(recognizer.logits(clip.numpy()) - expected).max() < 1e-2
    later = replace(request, target="rtx-4090", precision="fp16", compression=None, out=tmp_path / "rtx.edgeact")
    made = export(replace(later, load=LoadRequest(weights=weights)))
    assert any(artifact.is_engine for artifact in open_bundle(made.path).manifest.artifacts)
