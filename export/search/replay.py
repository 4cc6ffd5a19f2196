"""A trial of a search made again, for a bundle: from its record alone, by the code that made the trial."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError

from edgeact.bundle import Bundle
from edgeact.errors import DataError, MissingFileError, UsageError, WeightsError
from edgeact.export.build.compress import Compression, pruned_weights_file
from edgeact.export.build.data import DEFAULT_DATA, DataPlan, evaluation_digest
from edgeact.export.build.export import ExportRequest, export
from edgeact.export.models.checkpoint import read_weights, tensors_sha256
from edgeact.export.models.loading import LoadRequest, load_model
from edgeact.export.prune import PruneRequest
from edgeact.export.search.candidate import training_plan
from edgeact.export.search.job import sized
from edgeact.export.search.space import VERSION, ClipSize
from edgeact.progress import Callbacks
from edgeact.records import SearchRecipe, SearchRecord, SearchTrial

__all__ = ["export_request", "export_trial"]


def export_trial(file: Path, number: int, out: Path, callbacks: Callbacks | None = None) -> Bundle:
    """Prune, fine-tune and quantize as trial `number` of the record in `file` did, and write the bundle.

    On the same kind of machine, with the same libraries, the weights are the trial's; accuracy and latency are
    measured anew. Raises UsageError for a file that is no record of a search or has no such trial, WeightsError or
    DataError where the unpruned weights or the videos are other ones by now, and what `export` raises.
    """
    record = _read(file)
    trial = record.trial(number)
    if trial is None or trial.failure:
        good = ", ".join(str(one.number) for one in record.trials if not one.failure)
        why = f"it failed: {trial.failure}" if trial else f"there are {good or 'none'}"
        raise UsageError(f"'{file}' has no finished trial {number} to export: {why}")
    request = export_request(record, trial, out)
    model = load_model(request.source, request.load)
    if model.weights_sha256 != record.recipe.weights_sha256:
        raise WeightsError(
            f"'{file}' is a search of other weights: expected SHA-256 {record.recipe.weights_sha256[:16]}, got "
            f"{model.weights_sha256[:16]}; restore the weights, or search again"
        )
    _check_data(file, record, evaluation_digest(request.data, model.labels))
    torch.set_num_threads(record.recipe.threads)
    bundle = export(request, callbacks)
    made = _tuned(request, bundle)
    if callbacks and made and made != trial.weights_sha256:
        callbacks.on_note(
            f"the weights are not those of trial {number}, whose accuracy the search counted: the train videos, the "
            "libraries or the kind of machine are others; what was measured now is in the bundle"
        )
    return bundle


def _tuned(request: ExportRequest, bundle: Bundle) -> str:
    """Digest of the fine-tuned weights; empty where none were made, whatever an earlier export left there."""
    file = pruned_weights_file(request.out)
    if request.compression is None or request.compression.finetune is None or not file.exists():
        return ""
    weights = read_weights(file)
    return tensors_sha256(weights.tensors) if weights.sha256 == bundle.manifest.model.weights_sha256 else ""


def _check_data(file: Path, record: SearchRecord, there: str) -> None:
    if there != record.recipe.data_digest:
        raise DataError(
            f"'{file}' is a search on other videos: expected digest {record.recipe.data_digest[:16]}, got "
            f"{there[:16]}; restore the data, or search again"
        )


def export_request(record: SearchRecord, trial: SearchTrial, out: Path) -> ExportRequest:
    """The export that makes a trial again.

    What it may lose is what the trial may have lost, by the upper end of its interval: it was chosen knowing that.
    """
    recipe = record.recipe
    int8 = set(trial.int8)
    kept = [module for stage, modules in recipe.stages.items() if stage not in int8 for module in modules]
    return ExportRequest(
        target=record.target,
        out=out,
        source=recipe.source,
        load=LoadRequest(
            weights=Path(recipe.weights) if recipe.weights else None,
            labels=recipe.labels,
            width=recipe.width,
            clip=sized(recipe.clip, ClipSize(clip_frames=trial.clip_frames, size=trial.size)),
        ),
        precision=trial.precision,
        data=DataPlan(
            recipe.data or None,
            recipe.calibration_clips,
            recipe.evaluation_videos,
            recipe.accept_poor_calibration,
            recipe.seed,
        ),
        max_drop_points=max(record.max_drop_points, trial.drop.interval.high if trial.drop else 0.0),
        threads=recipe.threads,
        compression=_compression(recipe, trial),
        float_modules=tuple(kept) if int8 else (),
    )


def _compression(recipe: SearchRecipe, trial: SearchTrial) -> Compression | None:
    if not any(trial.ratios.values()):
        return None
    ratios = {pattern: trial.ratios[stage] for stage, patterns in recipe.patterns.items() for pattern in patterns}
    prune = PruneRequest(0.0, ratios=ratios, channel_multiple=recipe.channel_multiple)
    if not recipe.finetune_epochs:
        return Compression(prune, recipe.channel_multiple)
    train = training_plan(recipe.finetune_epochs, recipe.seed)
    return Compression(prune, recipe.channel_multiple, recipe.data or DEFAULT_DATA, train=train)


def _read(file: Path) -> SearchRecord:
    try:
        record = SearchRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        kind = MissingFileError if isinstance(error, FileNotFoundError) else UsageError
        raise kind(f"cannot read '{file}': {error.strerror or error}; expected FILE.search.json:TRIAL") from error
    except ValidationError as error:
        raise UsageError(f"'{file}' is no record of edgeact search: {error.errors()[0]['msg']}") from error
    if record.recipe.space_version != VERSION:
        raise UsageError(
            f"'{file}' is of version {record.recipe.space_version} of the search, this is {VERSION}: search again"
        )
    return record
