"""A configuration made real: the pruned, fine-tuned model, and the variants of it that a target could run."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

from edgeact.export.build.data import DEFAULT_DATA
from edgeact.export.models.checkpoint import read_weights, write_weights
from edgeact.export.models.loading import LoadedModel
from edgeact.export.prune import PruneRequest, apply_plan, plan_pruning
from edgeact.export.search.job import Loaded, SearchJob, loaded
from edgeact.export.search.space import Config, Space
from edgeact.export.train.finetune import FinetuneRequest, card_of, prune_and_finetune
from edgeact.export.train.loop import Progress, TrainPlan

__all__ = ["Candidate", "build", "training_plan"]

_LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Candidate:
    """A configuration's model beside the unpruned one it was made of; `weights` is its file, None: the same weights."""

    base: Loaded
    model: LoadedModel
    weights: Path | None


def build(job: SearchJob, space: Space, config: Config, out: Path, report: Progress | None = None) -> Candidate:
    """Prune and fine-tune as `config` has it, and write the weights with their lineage to `out`.

    The same job and configuration give the same weights on the same kind of machine. Where nothing goes nothing is
    written. Raises what pruning and fine-tuning raise.
    """
    base = loaded(job, config.clip)
    if not config.pruned:
        return Candidate(base, base.model, None)
    wanted = PruneRequest(0.0, ratios=space.pruning(config), channel_multiple=space.channel_multiple)
    model = _tuned(job, base, wanted, out, report) if job.finetune_epochs else _pruned(base.model, wanted, out)
    return Candidate(base, model, out if model is not base.model else None)


def training_plan(epochs: int, seed: int) -> TrainPlan:
    """How every pruned configuration of a search is trained."""
    return TrainPlan(epochs=epochs, learning_rate=_LEARNING_RATE, seed=seed)


def _tuned(job: SearchJob, base: Loaded, wanted: PruneRequest, out: Path, report: Progress | None) -> LoadedModel:
    plan = training_plan(job.finetune_epochs, job.data.seed)
    request = FinetuneRequest(wanted, job.data.spec or DEFAULT_DATA, train=plan)
    avoid = base.data.evaluation + base.data.parity.items  # as an export has it
    return prune_and_finetune(base.model, request, out, report, avoid)


def _pruned(model: LoadedModel, wanted: PruneRequest, out: Path) -> LoadedModel:
    plan = plan_pruning(model.module, model.clip.input_shape, wanted, model.weights_sha256)
    if not plan.cuts:
        return model
    module = copy.deepcopy(model.module)
    apply_plan(module, plan)
    card = card_of(model).pruned_by(plan)
    write_weights(out, module, card)
    sha256 = read_weights(out).sha256
    return replace(model, module=module.eval(), weights_sha256=sha256, provenance=card.provenance, pruning=card.pruning)
