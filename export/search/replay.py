"""A trial of a search as a bundle: built by the recipe that the search built it by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from pydantic import ValidationError

from edgeact.bundle import Bundle
from edgeact.errors import UsageError
from edgeact.export.build import Recipe, build
from edgeact.export.build.compress import pruned_weights_file
from edgeact.export.models.checkpoint import read_weights, tensors_sha256
from edgeact.export.search.recipes import trial_recipe
from edgeact.export.search.space import VERSION, ClipSize, Config
from edgeact.progress import Callbacks
from edgeact.records import SearchRecord, SearchTrial

__all__ = ["export_trial", "read_trial"]


def export_trial(file: Path, number: int, out: Path, callbacks: Callbacks | None = None) -> Bundle:
    """Build trial `number` of the record in `file` again and write the bundle.

    On the same kind of machine, with the same libraries, the artifacts are those of the trial; accuracy and latency are
    measured anew. Raises UsageError for a file that is no record of a search or has no such trial, WeightsError or
    DataError if the unpruned weights or the videos have changed, and what `build` raises.
    """
    recipe, trial = read_trial(file, number)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    bundle = build(recipe, callbacks=callbacks, out=out).bundle
    tuned_sha256 = _tuned_sha256(recipe, bundle, out)
    if callbacks and tuned_sha256 and tuned_sha256 != trial.weights_sha256:
        callbacks.on_note(
            f"the weights differ from those of trial {number}, whose accuracy the search counted: the train videos, "
            "the libraries or the kind of machine have changed; the bundle has the accuracy measured now"
        )
    return bundle


def read_trial(file: Path, number: int) -> tuple[Recipe, SearchTrial]:
    """Return the recipe and the record of a finished trial.

    The recipe's accuracy budget is what the trial may have lost by the upper end of its confidence interval, if that is
    more than the search allowed: the trial was chosen knowing that. Raises UsageError.
    """
    record = _read(file)
    trial = record.trial(number)
    if trial is None or trial.failure:
        good = ", ".join(str(each.number) for each in record.trials if not each.failure)
        why = f"it failed: {trial.failure}" if trial else f"there are {good or 'none'}"
        raise UsageError(f"'{file}' has no finished trial {number} to export: {why}")
    size = ClipSize(clip_frames=trial.clip_frames, size=trial.size)
    config = Config(ratios=trial.ratios, int8=trial.int8, clip=size)
    allowed = max(record.max_drop_points, trial.drop.interval.high if trial.drop else 0.0)
    recipe = trial_recipe(record.recipe, record.target, config)
    return replace(recipe, max_drop_points=allowed), trial


def _tuned_sha256(recipe: Recipe, bundle: Bundle, out: Path) -> str:
    """Return the digest of the fine-tuned weights; empty if none were made, whatever an earlier export left there."""
    file = pruned_weights_file(out)
    if recipe.compression is None or recipe.compression.finetune is None or not file.exists():
        return ""
    weights = read_weights(file)
    return tensors_sha256(weights.tensors) if weights.sha256 == bundle.manifest.model.weights_sha256 else ""


def _read(file: Path) -> SearchRecord:
    try:
        record = SearchRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read '{file}': {error.strerror or error}; expected FILE.search.json:TRIAL") from error
    except ValidationError as error:
        raise UsageError(f"'{file}' is no record of edgeact search: {error.errors()[0]['msg']}") from error
    if record.recipe.space_version != VERSION:
        raise UsageError(
            f"'{file}' is of version {record.recipe.space_version} of the search, this is {VERSION}: search again"
        )
    return record
