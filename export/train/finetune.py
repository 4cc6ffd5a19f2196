"""Iterative pruning with fine-tuning: each pruning step is followed by a distillation from the unpruned model.

Resumable at any time. Two files beside the weights exist until these are written: `NAME.pruning.safetensors`, the model
as the current step pruned it, and `NAME.step-K.training`, the training state of that step. Both carry a digest of
model, data and settings.
"""

from __future__ import annotations

import copy
import glob
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
from edgeact.export.train.batches import center_crop_batches
from edgeact.export.train.distill import Distillation, Teacher
from edgeact.export.train.frame_cache import PreparedVideos, prepare
from edgeact.export.train.loop import Method, fit
from edgeact.export.train.plan import EpochResult, TrainingVideos, TrainPlan
from edgeact.progress import Callbacks

__all__ = ["FinetuneRequest", "OnPlan", "card_of", "job_digest", "prune_and_finetune"]

OnPlan = Callable[[PruningPlan], None]

_GRADIENT_CLIPS = 128  # of different videos, spread over the split; more change the order of few channels
_JOB = "pruning_job"
_STEP = "pruning_step"


@dataclass(frozen=True)
class FinetuneRequest:
    """Pruning request, number of steps, and the training after each."""

    prune: PruneRequest
    data: str
    """Data set with the model's labels; its train split is trained on, the accuracy on its val split is reported."""
    steps: int = 1
    """Number of pruning steps."""
    train: TrainPlan = field(default_factory=lambda: TrainPlan(epochs=3, learning_rate=1e-3))
    """Training after every pruning step."""
    distillation: Distillation = field(default_factory=Distillation)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"iterative pruning: expected at least 1 step, got {self.steps}")


def prune_and_finetune(
    model: LoadedModel,
    request: FinetuneRequest,
    out: Path,
    callbacks: Callbacks | None = None,
    evaluation_videos: Sequence[VideoItem] = (),
    on_plan: OnPlan | None = None,
) -> LoadedModel:
    """Prune a copy of `model`, fine-tune it, write the weights with their lineage to `out`, and return it.

    Called again after an interruption it continues after the last finished epoch; if `out` exists it is loaded.
    `evaluation_videos` measure accuracy: neither they nor videos of their groups are trained on. `on_plan` is called
    with the plan of all steps together before the first. If no channel can be pruned, `model` itself is returned and
    nothing is written.
    Raises UsageError for files of another job and for random weights, DatasetError without a train split, and the
    errors of planning and training.
    """
    callbacks = callbacks or Callbacks()
    if out.suffix != ".safetensors":
        raise UsageError(f"fine-tuned weights: expected a path FILE.safetensors, got '{out}'")
    if not model.trained:
        raise UsageError(
            f"'{model.name}' has random weights, from which no student can be distilled; give trained --weights"
        )
    job = _job(model, request, evaluation_videos, callbacks)
    if out.exists():
        finished = _load_pruned(model, out, job.digest)
        _remove_state(out)
        callbacks.on_note(f"'{out}' is finished and is loaded")
        return finished
    if stage := _resumed_stage(model, out, job.digest):
        callbacks.on_note(f"resuming at step {stage.step} of {request.steps}")
    else:
        stage = _first_stage(job, out, on_plan)
    if stage is None:
        return model
    for step in range(stage.step, request.steps + 1):
        if step > stage.step:
            stage = _next_stage(stage, job, out)
        stage = replace(stage, card=_finetuned_card(stage.card, job, _finetune(stage, job, out, callbacks)))
    write_weights(out, stage.module, _without_step(stage.card))
    _remove_state(out)
    return _load_pruned(model, out, job.digest)


@dataclass(frozen=True)
class _Job:
    """Inputs of every pruning step, and the digest of all that decides the outcome."""

    model: LoadedModel
    request: FinetuneRequest
    dataset: Dataset
    videos: TrainingVideos
    original_sizes: Mapping[GroupKey, int]
    """Sizes of the unpruned model's channel groups; empty for a single step."""
    data_digest: str
    digest: str


@dataclass(frozen=True)
class _Stage:
    """The model of pruning step `step`, from 1; 0 is the unpruned model."""

    module: nn.Module
    card: ModelCard
    step: int


def _job(
    model: LoadedModel, request: FinetuneRequest, evaluation_videos: Sequence[VideoItem], callbacks: Callbacks
) -> _Job:
    dataset = match_labels(load_dataset(request.data, callbacks.step(LOADING_STEP)), model.labels)
    if not dataset.splits.get("train"):
        raise DatasetError(
            f"'{request.data}': expected a 'train' split to fine-tune on, got {', '.join(dataset.splits) or 'no split'}"
        )
    items = _without_groups_of(evaluation_videos, dataset, callbacks)
    used = replace(dataset, splits={"train": items})
    data_digest = used.digest("train", callbacks.step("hashing the videos"))
    validation = dataset.splits.get("val")
    videos = TrainingVideos(
        prepare(items, model.clip, callbacks.step("decoding the train videos")),
        prepare(validation, model.clip, callbacks.step("decoding the val videos")) if validation else None,
    )
    return _Job(
        model=model,
        request=request,
        dataset=used,
        videos=videos,
        original_sizes=group_sizes(model.module, model.clip.input_shape) if request.steps > 1 else {},
        data_digest=data_digest,
        digest=job_digest(model, request, data_digest),
    )


def job_digest(model: LoadedModel, request: FinetuneRequest, data_digest: str) -> str:
    """Return the digest of all that decides the outcome.

    Files of earlier releases hold it, so the names here never change.
    """
    prune = request.prune
    decisive = (
        *(model.weights_sha256, model.clip.model_dump_json(), model.labels, data_digest, request.steps),
        *(("ratio", prune.ratio), ("scope", prune.scope), ("ratios", [*prune.ratios.items()])),
        *(("importance", prune.importance), ("channel_multiple", prune.channel_multiple)),
        *(("most", prune.max_ratio), ("of_units", dict(prune.original_sizes))),
        *asdict(request.train).items(),
        *asdict(request.distillation).items(),
    )
    return hashlib.sha256(repr(decisive).encode()).hexdigest()[:16]


def _without_groups_of(
    evaluation_videos: Sequence[VideoItem], dataset: Dataset, callbacks: Callbacks
) -> tuple[VideoItem, ...]:
    """Return the train split without the groups (persons, source videos) that measure accuracy."""
    items = dataset.splits["train"]
    paths = {item.path.resolve() for item in evaluation_videos}
    groups = {item.group for split in dataset.splits.values() for item in split if item.path.resolve() in paths}
    kept = tuple(item for item in items if item.path.resolve() not in paths and item.group not in groups)
    if not kept:
        raise DatasetError(
            f"'{dataset.name}': all {len(items)} train videos share a group with videos that measure accuracy; "
            "fine-tune on other data, or measure on other data (--calib)"
        )
    if len(kept) < len(items):
        callbacks.on_note(f"{len(items) - len(kept)} train videos are not trained on: their groups measure accuracy")
    return kept


def _plan(module: nn.Module, job: _Job, fraction: float, step: tuple[int, int] = (1, 1)) -> PruningPlan:
    """Return the plan that prunes `module`, which earlier steps have pruned, to `fraction` of the requested ratios."""
    wanted = job.request.prune
    request = replace(
        wanted,
        ratio=_ratio_at(fraction, wanted.ratio),
        ratios={pattern: _ratio_at(fraction, ratio) for pattern, ratio in wanted.ratios.items()},
        original_sizes=job.original_sizes,
    )
    if wanted.importance == "taylor":
        accumulate_gradients(module, center_crop_batches(_gradient_videos(job.videos.train), job.request.train))
    is_unpruned = module is job.model.module
    weights_sha256 = job.model.weights_sha256 if is_unpruned else state_sha256(module)
    try:
        plan = plan_pruning(module, job.model.clip.input_shape, request, weights_sha256)
    finally:
        module.zero_grad(set_to_none=True)
    return plan.model_copy(update={"step": step})


def _ratio_at(fraction: float, ratio: float) -> float:
    """Return the ratio after `fraction` of the steps, if every step prunes the same share of the channels left."""
    return ratio if fraction == 1 else 1 - (1 - ratio) ** fraction


def _gradient_videos(videos: PreparedVideos) -> PreparedVideos:
    stride = max(len(videos) // _GRADIENT_CLIPS, 1)
    return replace(videos, files=videos.files[::stride], labels=videos.labels[::stride])


def _first_stage(job: _Job, out: Path, on_plan: OnPlan | None) -> _Stage | None:
    """Report the plan of all steps, then prune the first; return None if no channel can be pruned."""
    whole = _plan(job.model.module, job, 1.0)
    if on_plan:
        on_plan(whole)
    if not whole.cuts:
        return None
    unpruned = _Stage(copy.deepcopy(job.model.module), card_of(job.model), 0)
    return _next_stage(unpruned, job, out, whole if job.request.steps == 1 else None)


def _next_stage(stage: _Stage, job: _Job, out: Path, plan: PruningPlan | None = None) -> _Stage:
    """Prune the next step and write the result: a resumed training begins with it, without planning anew."""
    number, count = stage.step + 1, job.request.steps
    plan = plan or _plan(stage.module, job, number / count, (number, count))
    apply_plan(stage.module, plan)
    card = stage.card.pruned_by(plan) if plan.cuts else stage.card
    card = card.model_copy(update={"provenance": {**card.provenance, _JOB: job.digest, _STEP: str(number)}})
    _training_file(out, number).unlink(missing_ok=True)  # of another job, whose pruned model the user removed
    write_weights(_pruned_file(out), stage.module, card)
    _training_file(out, stage.step).unlink(missing_ok=True)
    return _Stage(stage.module, card, number)


def _finetune(stage: _Stage, job: _Job, out: Path, callbacks: Callbacks) -> float | None:
    """Train the module of `stage` in place; return its validation top-1."""
    request = job.request
    step = f"step {stage.step} of {request.steps}, " if request.steps > 1 else ""

    def on_event(event: object) -> None:
        if isinstance(event, EpochResult):
            top1 = "-" if event.validation_top1 is None else f"{event.validation_top1:.1%}"
            epoch = f"epoch {event.epoch + 1} of {request.train.epochs}"
            callbacks.on_note(f"{step}{epoch}: loss {event.loss:.3f}, validation top-1 {top1}")
        callbacks.on_event(event)

    method = Method(teacher=Teacher(job.model.module, request.distillation))
    state_file = _training_file(out, stage.step)
    result = fit(stage.module, job.videos, request.train, state_file, replace(callbacks, on_event=on_event), method)
    return result.validation_top1


def _finetuned_card(card: ModelCard, job: _Job, top1: float | None) -> ModelCard:
    """Return `card` with the provenance of the fine-tuning."""
    request = job.request
    terms, steps = request.distillation, request.steps
    provenance = {
        "finetuned_on": f"{job.dataset.name}, {len(job.videos.train)} train videos",
        "finetune_data_digest": job.data_digest,
        "finetune_epochs": str(request.train.epochs) + (f" in each of {steps} steps" if steps > 1 else ""),
        "distilled_from": job.model.weights_sha256,
        "distillation": (
            f"temperature {terms.temperature:g}, soft loss {terms.weight:g}, features {terms.feature_weight:g}"
        ),
        "validation_top1": "not measured" if top1 is None else f"{top1:.4f}",
    }
    return card.model_copy(update={"provenance": {**card.provenance, **provenance}})


def _without_step(card: ModelCard) -> ModelCard:
    provenance = {key: value for key, value in card.provenance.items() if key != _STEP}
    return card.model_copy(update={"provenance": provenance})


def card_of(model: LoadedModel) -> ModelCard:
    """Return the card that a weights file of `model` carries."""
    return ModelCard(
        model=model.name,
        width=int(model.options.get("width", 0)),
        labels=model.labels,
        clip=model.clip,
        provenance=model.provenance,
        pruning=model.pruning,
    )


def _resumed_stage(model: LoadedModel, out: Path, digest: str) -> _Stage | None:
    """Return the stage that an interrupted call was training, or None."""
    file = _pruned_file(out)
    if not file.exists():
        return None
    pruned = _load_pruned(model, file, digest)
    card = card_of(pruned)
    return _Stage(pruned.module, card, int(card.provenance[_STEP]))


def _load_pruned(model: LoadedModel, file: Path, digest: str) -> LoadedModel:
    """Return `model` pruned and with the weights as in `file`; raise UsageError if that is of another job."""
    weights = read_weights(file)
    card = weights.card
    if card is None or card.provenance.get(_JOB) != digest:
        raise UsageError(
            f"'{file}' holds weights of another pruning: model, data or settings differ; repeat the command that began "
            "it, choose another --out, or remove the file to begin anew"
        )
    module = copy.deepcopy(model.module)
    for plan in card.pruning[len(model.pruning) :]:
        apply_cuts(module, plan.cuts)
    load_weights(module, weights)
    sha256 = file_sha256(file)
    return replace(model, module=module.eval(), weights_sha256=sha256, provenance=card.provenance, pruning=card.pruning)


def _remove_state(out: Path) -> None:
    for file in (_pruned_file(out), *out.parent.glob(f"{glob.escape(out.stem)}.step-*.training")):
        file.unlink(missing_ok=True)


def _pruned_file(out: Path) -> Path:
    return out.with_name(f"{out.stem}.pruning.safetensors")


def _training_file(out: Path, step: int) -> Path:
    return out.with_name(f"{out.stem}.step-{step}.training")
