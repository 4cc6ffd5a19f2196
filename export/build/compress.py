"""The stages 'prune' and 'train': show the plan, remove channels, fine-tune what is left."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeact.devices import DeviceProfile
from edgeact.errors import UsageError
from edgeact.export.build.compression import Compression
from edgeact.export.build.pruning_latency import plan_latency
from edgeact.export.build.state import Build, Context, Model
from edgeact.export.models.checkpoint import state_sha256
from edgeact.export.models.loading import LoadedModel
from edgeact.export.models.pruning.plan import PlanLatency, PruningPlan
from edgeact.export.prune.planning import apply_plan, plan_pruning
from edgeact.export.prune.request import PruneRequest
from edgeact.export.train.finetune import FinetuneRequest, card_of, prune_and_finetune
from edgeact.phrases import phrase
from edgeact.precision import Precision
from edgeact.reasons import AfterPruning, Decision, FineTuned, Pruned

__all__ = ["PlanReady", "fine_tune", "prune", "pruned_weights_file"]


@dataclass(frozen=True)
class PlanReady:
    """Event: the pruning plan, before anything is removed."""

    plan: PruningPlan
    latency: PlanLatency | None
    """Latency before and after the plan; None if the target is neither at hand nor has known peak rates."""


def prune(build: Build, context: Context) -> Build:
    """Prune the model as the recipe says, unless it is fine-tuned as well: then the stage 'train' does both in steps.

    The loaded module is not changed. Raises what planning raises.
    """
    model, compression = build.inputs.model, build.recipe.compression
    if compression is None:
        decisions: tuple[Decision, ...] = (AfterPruning(case="pruned-before"),) if model.pruning else ()
        return replace(build, maybe_model=Model(model), decisions=build.decisions + decisions)
    if compression.finetune is not None:
        return replace(build, maybe_model=Model(model))
    context.callbacks.begin("planning what to prune")
    request = _request(build, compression)
    plan = plan_pruning(model.module, model.clip.input_shape, request, model.weights_sha256)
    _on_plan(build, context)(plan)
    pruned = _pruned(model, plan) if plan.cuts else model
    return _compressed(build, context, pruned)


def fine_tune(build: Build, context: Context) -> Build:
    """Prune and fine-tune in the recipe's steps, with the unpruned model as teacher; nothing without fine-tuning data.

    The weights are written beside the bundle, from where an interrupted training is resumed. The loaded module is not
    changed. Raises UsageError without a file for the bundle, and what planning, training and reading the data raise.
    """
    model, compression = build.inputs.model, build.recipe.compression
    if compression is None or compression.finetune is None:
        return build
    if context.out is None:
        raise UsageError("fine-tuning writes the weights beside the bundle: expected a file for the bundle, got none")
    callbacks = context.callbacks
    callbacks.begin("planning what to prune")
    request = FinetuneRequest(
        _request(build, compression),
        compression.finetune,
        compression.steps,
        compression.train,
        compression.distillation,
    )
    weights = pruned_weights_file(context.out)
    data = build.inputs.data
    measured_on = data.evaluation + data.parity.items
    tuned = prune_and_finetune(model, request, weights, callbacks, measured_on, _on_plan(build, context))
    if tuned is not model:
        callbacks.on_note(f"the fine-tuned weights are in {weights}; --weights takes them in later exports")
    return _compressed(build, context, tuned)


def pruned_weights_file(bundle: Path) -> Path:
    """Return the file of the fine-tuned weights that belong to a bundle."""
    return bundle.with_suffix(".pruned.safetensors")


def _request(build: Build, compression: Compression) -> PruneRequest:
    multiple = compression.channel_multiple or _channel_multiple(build.inputs.profile, build.recipe.precisions)
    return replace(compression.prune, channel_multiple=multiple)


def _channel_multiple(profile: DeviceProfile, precisions: Sequence[Precision]) -> int:
    """Return the multiple of channels that the target's kernels compute at once, in the lowest precision wanted."""
    in_int8 = "int8" in precisions and profile.supports_int8
    return (profile.channel_multiple_int8 if in_int8 else profile.channel_multiple_fp16) or 1


def _on_plan(build: Build, context: Context) -> Callable[[PruningPlan], None]:
    model, profile, callbacks = build.inputs.model, build.inputs.profile, context.callbacks

    def on_plan(plan: PruningPlan) -> None:
        latency = plan_latency(model.module, plan, model.clip, profile, callbacks.on_progress)
        callbacks.on_event(PlanReady(plan, latency))

    return on_plan


def _compressed(build: Build, context: Context, pruned: LoadedModel) -> Build:
    """Return the build with the pruned model, and tell the user what accuracy and parity count from."""
    model, compression = build.inputs.model, build.recipe.compression
    is_tuned = compression is not None and compression.finetune is not None
    if pruned is model:
        nothing = AfterPruning(case="nothing-pruned")
        context.callbacks.on_note(phrase(nothing))
        return replace(build, maybe_model=Model(model), decisions=(*build.decisions, nothing))
    after = AfterPruning(case="fine-tuned" if is_tuned else "not-fine-tuned")
    if not is_tuned:
        context.callbacks.on_note(phrase(after))
    training = (_fine_tuned(pruned),) if is_tuned else ()
    decisions = (*build.decisions, _pruned_by(pruned.pruning[len(model.pruning) :]), *training, after)
    return replace(build, maybe_model=Model(pruned, model, is_tuned), decisions=decisions)


def _pruned(model: LoadedModel, plan: PruningPlan) -> LoadedModel:
    module = copy.deepcopy(model.module)
    apply_plan(module, plan)
    card = card_of(model).pruned_by(plan)
    provenance = {**card.provenance, "validation_top1": "not measured after pruning"}
    digest = state_sha256(module)
    return replace(model, module=module, weights_sha256=digest, provenance=provenance, pruning=card.pruning)


def _pruned_by(plans: Sequence[PruningPlan]) -> Pruned:
    first, last = plans[0], plans[-1]
    return Pruned(
        ratio=last.provenance["pruning_ratio"],
        importance=last.importance,
        scope=last.scope,
        channel_multiple=last.channel_multiple,
        parameters=(first.parameters[0], last.parameters[1]),
        macs=(first.macs[0], last.macs[1]),
        unpruned_layers=len(last.skipped),
    )


def _fine_tuned(model: LoadedModel) -> FineTuned:
    provenance = model.provenance
    return FineTuned(
        data=provenance["finetuned_on"],
        epochs=provenance["finetune_epochs"],
        teacher_sha256=provenance["distilled_from"],
        distillation=provenance["distillation"],
        validation_top1=provenance["validation_top1"],
    )
