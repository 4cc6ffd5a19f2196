"""Prune, fine-tune, prune again: in steps towards one ratio, taught by the unpruned model, interrupted at any time.

Two files lie beside the weights to be written until they are: `NAME.pruning.safetensors`, the model as the step under
way began with it, and `NAME.step-K.training`, the training of that step. Both belong to one model, data and settings.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from torch import nn

from edgeact.calibration.datasets import LOADING_STEP, Dataset, VideoItem, load_dataset
from edgeact.calibration.evaluation import match_labels
from edgeact.errors import DatasetError, UsageError
from edgeact.export.models.checkpoint import (
    ModelCard,
    file_sha256,
    load_weights,
    read_weights,
    state_sha256,
    write_weights,
)
from edgeact.export.models.loading import LoadedModel
from edgeact.export.models.pruning.apply import apply_cuts
from edgeact.export.models.pruning.plan import PruningPlan
from edgeact.export.prune.importance import accumulate_gradients
from edgeact.export.prune.planning import apply_plan, group_sizes, plan_pruning
from edgeact.export.prune.request import PruneRequest
from edgeact.export.prune.trace import GroupKey
from edgeact.export.train.distill import Distillation, Teacher
from edgeact.export.train.frame_cache import PreparedVideos, prepare
from edgeact.export.train.loop import EpochResult, Progress, TrainingVideos, TrainPlan, centred_batches, fit
from edgeact.progress import titled

__all__ = ["FinetuneRequest", "OnPlan", "card_of", "prune_and_finetune"]

OnPlan = Callable[[PruningPlan], None]

_GRADIENT_CLIPS = 128  # of different videos, spread over the split; more change the order of few channels
_JOB = "pruning_job"
_STEP = "pruning_step"


@dataclass(frozen=True)
class FinetuneRequest:
    """What is to go, in how many steps, and how each of them is trained."""

    prune: PruneRequest
    data: str
    """Data set with the model's labels; its train split trains, its val split tells how far it is."""
    steps: int = 1
    train: TrainPlan = field(default_factory=lambda: TrainPlan(epochs=3, learning_rate=1e-3))
    """Of every step."""
    distillation: Distillation = field(default_factory=Distillation)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"expected at least 1 step of pruning, got {self.steps}")


def prune_and_finetune(
    model: LoadedModel,
    request: FinetuneRequest,
    out: Path,
    report: Progress | None = None,
    avoid: Sequence[VideoItem] = (),
    on_plan: OnPlan | None = None,
) -> LoadedModel:
    """Prune `model`, which stays as it is, and write the fine-tuned weights with their lineage to `out`.

    Called again after an interruption it goes on after the last finished epoch; where `out` is finished it is taken.
    `avoid` are videos that measure accuracy: neither they nor others of their groups are trained on. `on_plan` is
    called with what all steps together come to before anything is done. Where there is nothing to take out, `model`
    itself is returned and nothing is written.
    Raises UsageError for files of another job and for random weights, DatasetError without a train split, and whatever
    planning and training raise.
    """
    report = report or Progress()
    if out.suffix != ".safetensors":
        raise UsageError(f"expected weights to be written to FILE.safetensors, got '{out}'")
    if not model.trained:
        raise UsageError(f"the weights of '{model.name}' are random and have nothing to teach; give trained --weights")
    job = _job(model, request, avoid, report)
    if out.exists():
        finished = _taken(model, out, job.digest)
        _clear(out)
        report.on_note(f"'{out}' is finished: its weights are taken")
        return finished
    if stage := _resumed(model, out, job.digest):
        report.on_note(f"going on in step {stage.step} of {request.steps}")
    else:
        stage = _first_stage(job, out, on_plan)
    if stage is None:
        return model
    for step in range(stage.step, request.steps + 1):
        if step > stage.step:
            stage = _next_stage(stage, job, out)
        stage = replace(stage, card=_told(stage.card, job, _tuned(stage, job, out, report)))
    write_weights(out, stage.module, _without_step(stage.card))
    _clear(out)
    return _taken(model, out, job.digest)


@dataclass(frozen=True)
class _Job:
    """What every step needs, and the digest of all that decides the outcome."""

    model: LoadedModel
    request: FinetuneRequest
    dataset: Dataset
    videos: TrainingVideos
    units: Mapping[GroupKey, int]
    """Of the unpruned model."""
    data_digest: str
    digest: str


@dataclass(frozen=True)
class _Stage:
    """The model as step `step` of pruning left it, before that step's training, or after it."""

    module: nn.Module
    card: ModelCard
    step: int


def _job(model: LoadedModel, request: FinetuneRequest, avoid: Sequence[VideoItem], report: Progress) -> _Job:
    dataset = match_labels(load_dataset(request.data, titled(report.on_step, LOADING_STEP)), model.labels)
    if not dataset.splits.get("train"):
        raise DatasetError(f"'{request.data}' has no 'train' split to fine-tune on; it has {', '.join(dataset.splits)}")
    items = _unseen(dataset, avoid, report)
    used = replace(dataset, splits={"train": items})
    data_digest = used.digest("train", titled(report.on_step, "hashing the videos"))
    decisive = (
        *(model.weights_sha256, model.clip.model_dump_json(), model.labels, data_digest, request.steps),
        *request.prune.digest_items(),
        *asdict(request.train).items(),
        *asdict(request.distillation).items(),
    )
    videos = TrainingVideos(
        prepare(items, model.clip, titled(report.on_step, "decoding the train videos")),
        _validation(dataset, model, report),
    )
    return _Job(
        model=model,
        request=request,
        dataset=used,
        videos=videos,
        units=group_sizes(model.module, model.clip.input_shape) if request.steps > 1 else {},
        data_digest=data_digest,
        digest=hashlib.sha256(repr(decisive).encode()).hexdigest()[:16],
    )


def _validation(dataset: Dataset, model: LoadedModel, report: Progress) -> PreparedVideos | None:
    if not dataset.splits.get("val"):
        return None
    return prepare(dataset.splits["val"], model.clip, titled(report.on_step, "decoding the val videos"))


def _unseen(dataset: Dataset, avoid: Sequence[VideoItem], report: Progress) -> tuple[VideoItem, ...]:
    """The train split without what measures accuracy."""
    items = dataset.splits["train"]
    measured = {item.path.resolve() for item in avoid}
    groups = {item.group for items in dataset.splits.values() for item in items if item.path.resolve() in measured}
    kept = tuple(item for item in items if item.path.resolve() not in measured and item.group not in groups)
    if not kept:
        raise DatasetError(
            f"all {len(items)} train videos of '{dataset.name}' share a group with those that measure accuracy; give "
            "data to fine-tune on, or to measure on (--data), of its own"
        )
    if len(kept) < len(items):
        report.on_note(f"{len(items) - len(kept)} train videos are not trained on: their groups measure accuracy")
    return kept


def _planned(module: nn.Module, job: _Job, part: float, step: tuple[int, int] = (1, 1)) -> PruningPlan:
    """What takes `module`, as it is by now, to `part` of the way: 0 is nothing, 1 the ratios asked for."""
    wanted = job.request.prune
    request = replace(
        wanted,
        ratio=_share(wanted.ratio, part),
        ratios={pattern: _share(ratio, part) for pattern, ratio in wanted.ratios.items()},
        original_sizes=job.units,
    )
    if wanted.importance == "taylor":
        accumulate_gradients(module, centred_batches(_spread(job.videos.train), job.request.train))
    unpruned = module is job.model.module
    weights = job.model.weights_sha256 if unpruned else state_sha256(module)
    try:
        plan = plan_pruning(module, job.model.clip.input_shape, request, weights)
    finally:
        module.zero_grad(set_to_none=True)
    return plan.model_copy(update={"step": step})


def _share(ratio: float, part: float) -> float:
    """Every step takes the same share of what is left: together they leave what one would have."""
    return ratio if part == 1 else 1 - (1 - ratio) ** part


def _spread(videos: PreparedVideos) -> PreparedVideos:
    every = max(len(videos) // _GRADIENT_CLIPS, 1)
    return replace(videos, files=videos.files[::every], labels=videos.labels[::every])


def _first_stage(job: _Job, out: Path, on_plan: OnPlan | None) -> _Stage | None:
    """Tell the plan, then prune; None where there is nothing to take out."""
    whole = _planned(job.model.module, job, 1.0)
    if on_plan:
        on_plan(whole)
    if not whole.cuts:
        return None
    unpruned = _Stage(copy.deepcopy(job.model.module), card_of(job.model), 0)
    return _next_stage(unpruned, job, out, whole if job.request.steps == 1 else None)


def _next_stage(stage: _Stage, job: _Job, out: Path, plan: PruningPlan | None = None) -> _Stage:
    """Prune, and write down where its training begins: nothing of it is planned anew when that is interrupted."""
    number, count = stage.step + 1, job.request.steps
    plan = plan or _planned(stage.module, job, number / count, (number, count))
    apply_plan(stage.module, plan)
    card = stage.card.pruned_by(plan) if plan.cuts else stage.card
    card = card.model_copy(update={"provenance": {**card.provenance, _JOB: job.digest, _STEP: str(number)}})
    _training_file(out, number).unlink(missing_ok=True)  # of another pruning, whose state file somebody took away
    write_weights(_state_file(out), stage.module, card)
    _training_file(out, stage.step).unlink(missing_ok=True)
    return _Stage(stage.module, card, number)


def _tuned(stage: _Stage, job: _Job, out: Path, report: Progress) -> float | None:
    """Train the module of a stage; its validation top-1."""
    request = job.request
    where = f"step {stage.step} of {request.steps}, " if request.steps > 1 else ""

    def on_epoch(result: EpochResult) -> None:
        top1 = "-" if result.validation_top1 is None else f"{result.validation_top1:.1%}"
        told = f"{where}epoch {result.epoch + 1} of {request.train.epochs}: loss {result.loss:.3f}, validation {top1}"
        report.on_note(told)
        if report.on_epoch:
            report.on_epoch(result)

    progress = replace(report, on_epoch=on_epoch)
    teacher = Teacher(job.model.module, request.distillation)
    result = fit(stage.module, job.videos, request.train, _training_file(out, stage.step), progress, teacher)
    return result.validation_top1


def _told(card: ModelCard, job: _Job, top1: float | None) -> ModelCard:
    """The card with how its weights were fine-tuned."""
    request = job.request
    terms, steps = request.distillation, request.steps
    weights = f"soft loss {terms.weight:g}, features {terms.feature_weight:g}"
    told = {
        "finetuned_on": f"{job.dataset.name}, {len(job.videos.train)} train videos",
        "finetune_data_digest": job.data_digest,
        "finetune_epochs": str(request.train.epochs) + (f" in each of {steps} steps" if steps > 1 else ""),
        "distilled_from": job.model.weights_sha256,
        "distillation": f"temperature {terms.temperature:g}, {weights}",
        "validation_top1": "not measured" if top1 is None else f"{top1:.4f}",
    }
    return card.model_copy(update={"provenance": {**card.provenance, **told}})


def _without_step(card: ModelCard) -> ModelCard:
    return card.model_copy(update={"provenance": {key: v for key, v in card.provenance.items() if key != _STEP}})


def card_of(model: LoadedModel) -> ModelCard:
    """What a weights file says of a loaded model."""
    return ModelCard(
        model=model.name,
        width=int(model.options.get("width", 0)),
        labels=model.labels,
        clip=model.clip,
        provenance=model.provenance,
        pruning=model.pruning,
    )


def _resumed(model: LoadedModel, out: Path, digest: str) -> _Stage | None:
    """The stage that an interrupted call was training."""
    file = _state_file(out)
    if not file.exists():
        return None
    found = _taken(model, file, digest)
    card = card_of(found)
    return _Stage(found.module, card, int(card.provenance[_STEP]))


def _taken(model: LoadedModel, file: Path, digest: str) -> LoadedModel:
    """`model` as `file` has it; UsageError where that is of another job."""
    weights = read_weights(file)
    card = weights.card
    if card is None or card.provenance.get(_JOB) != digest:
        raise UsageError(
            f"'{file}' holds weights of another pruning: of another model, other data or other settings; repeat those, "
            "choose another --out, or remove the file to begin anew"
        )
    module = copy.deepcopy(model.module)
    for plan in card.pruning[len(model.pruning) :]:
        apply_cuts(module, plan.cuts)
    load_weights(module, weights)
    sha256 = file_sha256(file)
    return replace(model, module=module.eval(), weights_sha256=sha256, provenance=card.provenance, pruning=card.pruning)


def _clear(out: Path) -> None:
    for file in (_state_file(out), *out.parent.glob(f"{_escaped(out.stem)}.step-*.training")):
        file.unlink(missing_ok=True)


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _state_file(out: Path) -> Path:
    return out.with_name(f"{out.stem}.pruning.safetensors")


def _training_file(out: Path, step: int) -> Path:
    return out.with_name(f"{out.stem}.step-{step}.training")
