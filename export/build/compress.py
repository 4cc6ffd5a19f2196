"""What an export does to the model before it converts it: prune, print the plan first, fine-tune."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeact.calibration.datasets import VideoItem
from edgeact.devices import DeviceProfile
from edgeact.errors import UsageError
from edgeact.export.build.pruning_latency import plan_latency
from edgeact.export.models.checkpoint import state_sha256
from edgeact.export.models.loading import LoadedModel
from edgeact.export.models.pruning.plan import PlanLatency, PruningPlan
from edgeact.export.prune.planning import apply_plan, plan_pruning
from edgeact.export.prune.request import PruneRequest
from edgeact.export.train.distill import Distillation
from edgeact.export.train.finetune import FinetuneRequest, card_of, prune_and_finetune
from edgeact.export.train.loop import Progress, TrainPlan
from edgeact.progress import Callbacks

__all__ = ["Compressed", "Compression", "Given", "PlanReady", "compress", "pruned_weights_file"]

_NOTHING = "nothing was pruned: no layer has channels to spare at these ratios and multiples; the plan says why"
_AGREEMENT = "agreement is measured against the pruned PyTorch model"
_TUNED = f"{_AGREEMENT}, the loss of accuracy against the unpruned one"
_UNTUNED = (
    "pruned without fine-tuning (--finetune DATA): accuracy is lost, see the rows of PyTorch; the loss that is allowed "
    f"counts from the pruned model; {_AGREEMENT}"
)
_BEFORE = (
    "the weights had been pruned before: agreement and loss of accuracy count from them; export the unpruned weights "
    "with --prune to count from those"
)


@dataclass(frozen=True)
class Compression:
    """What is to go, and how the rest is trained afterwards."""

    prune: PruneRequest
    """Its channel multiple is `channel_multiple`, or where that is None the target profile's."""
    channel_multiple: int | None = None
    finetune: str | None = None
    """Data set with the model's labels and a train split; None: not trained after pruning."""
    steps: int = 1
    """Prune and fine-tune this many times, towards the same ratios."""
    train: TrainPlan = field(default_factory=lambda: TrainPlan(epochs=3, learning_rate=1e-3))
    distillation: Distillation = field(default_factory=Distillation)

    def __post_init__(self) -> None:
        if self.finetune is None and self.prune.importance == "taylor":
            raise UsageError("importance 'taylor' takes gradients from training clips; give them with --finetune DATA")
        if self.finetune is None and self.steps > 1:
            raise UsageError(f"{self.steps} steps of pruning are {self.steps} of training; give --finetune DATA")


@dataclass(frozen=True)
class Given:
    """What is compressed, for what, and where its weights go."""

    model: LoadedModel
    profile: DeviceProfile
    out: Path
    """Of the bundle; fine-tuned weights are written beside it."""
    with_int8: bool
    avoid: Sequence[VideoItem]
    """Videos that measure accuracy."""


@dataclass(frozen=True)
class PlanReady:
    """Event: what is going to be pruned, before anything is."""

    plan: PruningPlan
    latency: PlanLatency | None
    """Latency before and after the plan; None if the target's is neither measurable here nor known to be estimated."""


@dataclass(frozen=True)
class Compressed:
    """The model to convert, and what it was before."""

    model: LoadedModel
    unpruned: LoadedModel | None = None
    """None: nothing was pruned in this export."""
    counts_from_unpruned: bool = False
    """Whether the loss of accuracy that is allowed counts from the unpruned model."""
    decisions: tuple[str, ...] = ()


def compress(wanted: Compression | None, given: Given, callbacks: Callbacks) -> Compressed:
    """Prune and fine-tune as wanted; the given model is left as it is.

    The plan is told before anything is done. Raises what planning, training and reading the data raise.
    """
    model = given.model
    if wanted is None:
        return Compressed(model, decisions=(_BEFORE,) if model.pruning else ())
    request = replace(wanted.prune, channel_multiple=wanted.channel_multiple or _multiple(given))

    def on_plan(plan: PruningPlan) -> None:
        latency = plan_latency(model.module, plan, model.clip, given.profile, callbacks.on_progress)
        callbacks.on_event(PlanReady(plan, latency))

    callbacks.begin("planning what to prune")
    if wanted.finetune is None:
        plan = plan_pruning(model.module, model.clip.input_shape, request, model.weights_sha256)
        on_plan(plan)
        pruned = _pruned(model, plan) if plan.cuts else model
    else:
        tuning = FinetuneRequest(request, wanted.finetune, wanted.steps, wanted.train, wanted.distillation)
        progress = Progress(callbacks.on_progress, None, callbacks.on_note)
        weights = pruned_weights_file(given.out)
        pruned = prune_and_finetune(model, tuning, weights, progress, given.avoid, on_plan)
        if pruned is not model:
            callbacks.on_note(f"the fine-tuned weights are in {weights}; --weights takes them in later exports")
    if pruned is model:
        callbacks.on_note(_NOTHING)
        return Compressed(model, decisions=(_NOTHING,))
    is_tuned = wanted.finetune is not None
    if not is_tuned:
        callbacks.on_note(_UNTUNED)
    training = (_training_told(pruned), _TUNED) if is_tuned else (_UNTUNED,)
    return Compressed(pruned, model, is_tuned, (_told(pruned.pruning[len(model.pruning) :]), *training))


def pruned_weights_file(bundle: Path) -> Path:
    """Where the fine-tuned weights of a bundle lie."""
    return bundle.with_suffix(".pruned.safetensors")


def _multiple(given: Given) -> int:
    """What the target's kernels want of channel counts, in the lowest precision that is asked for."""
    profile = given.profile
    in_int8 = given.with_int8 and profile.supports_int8
    return (profile.channel_multiple_int8 if in_int8 else profile.channel_multiple_fp16) or 1


def _pruned(model: LoadedModel, plan: PruningPlan) -> LoadedModel:
    module = copy.deepcopy(model.module)
    apply_plan(module, plan)
    card = card_of(model).pruned_by(plan)
    provenance = {**card.provenance, "validation_top1": "not measured after pruning"}
    digest = state_sha256(module)
    return replace(model, module=module, weights_sha256=digest, provenance=provenance, pruning=card.pruning)


def _told(plans: Sequence[PruningPlan]) -> str:
    first, last = plans[0], plans[-1]
    asked = last.provenance["pruning_ratio"]
    stay = f"; {len(last.skipped)} layers keep their outputs (the plan says why)" if last.skipped else ""
    return (
        f"pruned: ratio {asked}, by {last.importance}, scope {last.scope}, multiples of {last.channel_multiple}: "
        f"{first.parameters[0]:,} -> {last.parameters[1]:,} parameters, "
        f"{first.macs[0] / 1e6:,.1f} -> {last.macs[1] / 1e6:,.1f} MMACs{stay}"
    )


def _training_told(model: LoadedModel) -> str:
    told = model.provenance
    return (
        f"fine-tuned on {told['finetuned_on']}, epochs: {told['finetune_epochs']}, distilled from the unpruned weights "
        f"{told['distilled_from'][:12]} ({told['distillation']}), validation top-1 {told['validation_top1']}"
    )
