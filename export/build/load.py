"""The stage 'load': check the recipe, load the model, read the data, resolve the recipe."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

from edgeact.calibration.clips import ClipSample
from edgeact.devices import DeviceProfile, load_profile
from edgeact.errors import CalibrationError, DataError, UsageError, WeightsError
from edgeact.export.build.data import RANDOM_DATA, ExportData, gather, gather_calibration
from edgeact.export.build.recipe import Recipe
from edgeact.export.build.state import Build, Context, Inputs
from edgeact.export.models.loading import LoadedModel, load_model
from edgeact.export.models.spec import Pixels
from edgeact.export.quantize.qdq import check_clips
from edgeact.loading_notes import RandomWeights
from edgeact.phrases import phrase
from edgeact.reasons import Decision, VideosSkipped

__all__ = ["is_foreign", "load", "with_clip"]

_UNTRAINED_CLIPS = 4  # of parity: random weights decide nothing, and quantization shows on any clip


def load(build: Build, context: Context) -> Build:
    """Load the model and the data of the recipe, and resolve the recipe's clip, labels and digests.

    Raises UsageError, DataError, ModelError and WeightsError, each naming expected and got.
    """
    recipe, callbacks = build.recipe, context.callbacks
    _check_out(context.out)
    if not 0 <= recipe.max_drop_points < math.inf:
        raise UsageError(f"expected --max-drop from 0, and finite, got {recipe.max_drop_points:g}")
    profile = load_profile(recipe.target)
    _check_int8(recipe, profile)
    callbacks.begin("loading the model")
    model = _load_model(recipe, context)
    for note in model.notes:
        callbacks.on_note(phrase(note))
    callbacks.begin("reading the data")
    data = _read_data(recipe, model, profile, context)
    resolved = _resolved(recipe, model, data, context)
    decisions = (*build.decisions, *_decisions(model, data))
    return replace(build, recipe=resolved, maybe_inputs=Inputs(model, data, profile), decisions=decisions)


def with_clip(recipe: Recipe, model: LoadedModel) -> Recipe:
    """Return the recipe with the clip contract and the labels of the loaded model in place of options."""
    request = replace(
        recipe.load,
        clip=model.clip,
        labels=model.labels,
        clip_frames=None,
        size=None,
        fps=None,
        resize=None,
        pixels=Pixels(),
    )
    return replace(recipe, load=request)


def is_foreign(recipe: Recipe, model: LoadedModel, data: ExportData) -> bool:
    """Return whether no data was given and the data of the project lacks the model's labels."""
    return recipe.data.spec is None and data.labels != model.labels


def _load_model(recipe: Recipe, context: Context) -> LoadedModel:
    if recipe.is_module_object and context.module is None:
        raise UsageError(
            f"this recipe was built from a module object of class '{recipe.source}', which the recipe does not hold; "
            "pass the module object, or write its package.module:factory into the recipe's source"
        )
    model = load_model(context.module if context.module is not None else recipe.source, recipe.load)
    if recipe.weights_sha256 and model.weights_sha256 != recipe.weights_sha256:
        raise WeightsError(
            f"the recipe is of other weights of '{model.name}': expected SHA-256 {recipe.weights_sha256[:16]}, got "
            f"{model.weights_sha256[:16]}; restore the weights, or build from a recipe without the digest"
        )
    return model


def _check_int8(recipe: Recipe, profile: DeviceProfile) -> None:
    named = recipe.precision if recipe.precision in ("mixed", "int8") else None
    asked = f"--precision {named}" if named else "--sensitivity" if recipe.sensitivity else None
    if asked and not profile.supports_int8:
        raise UsageError(f"{asked} is about INT8, which {profile.title} does not have; use --precision fp16")
    if asked and "int8" not in recipe.precisions:
        raise UsageError(f"{asked} is about INT8, which --precision {recipe.precision} leaves out; use auto or mixed")
    if (named == "mixed" or recipe.sensitivity) and recipe.data.spec == RANDOM_DATA:
        raise UsageError(f"{asked} needs real clips, random clips show no damage of INT8; give --data DATA")


def _check_out(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix != ".edgeact":
        raise UsageError(f"expected --out FILE.edgeact, got '{out}'")
    if out.is_dir():
        raise UsageError(f"expected --out FILE.edgeact, but '{out}' is a folder")
    # Missing folders are made when the bundle is written, so the nearest existing one decides.
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UsageError(f"cannot write '{out}': expected a folder, but '{folder}' is a file; choose another --out")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write '{out}': folder '{folder}' is not writable; choose another --out")


def _read_data(recipe: Recipe, model: LoadedModel, profile: DeviceProfile, context: Context) -> ExportData:
    callbacks = context.callbacks
    if recipe.data.spec in (None, RANDOM_DATA):
        callbacks.on_note("no data of your own (--data DATA): clips come from stick-actions, generated on first use")
    if context.calibration_only:
        calibration, provenance, labels = gather_calibration(
            recipe.data, model.labels, model.clip, callbacks.on_progress
        )
        data = ExportData(calibration, provenance, ClipSample((), ()), (), labels, None)
        _check_calibration(recipe, profile, model, data)
        return data
    data = gather(recipe.data, model.labels, model.clip, callbacks.on_progress)
    digest = data.source.digest if data.source else ""
    if recipe.data_digest and digest != recipe.data_digest:
        raise DataError(
            f"the recipe is of other videos of '{data.provenance.dataset}': expected digest {recipe.data_digest[:16]}, "
            f"got {digest[:16] or 'none'}; restore the videos, or build from a recipe without the digest"
        )
    _check_calibration(recipe, profile, model, data)
    if model.trained:
        if data.note:
            advice = "; give --labels FILE (one label a line, in the order of the model's outputs)"
            callbacks.on_note(phrase(data.note) + (advice if data.source is None else ""))
        return data
    few = ClipSample(data.parity.inputs[:_UNTRAINED_CLIPS], data.parity.items[:_UNTRAINED_CLIPS], data.parity.skipped)
    return replace(data, parity=few, source=None, note=RandomWeights())


def _check_calibration(recipe: Recipe, profile: DeviceProfile, model: LoadedModel, data: ExportData) -> None:
    """Raise CalibrationError, before anything is converted, if INT8 cannot be calibrated as asked for."""
    if "int8" not in recipe.precisions or not profile.supports_int8:
        return
    if not is_foreign(recipe, model, data):
        check_clips(len(data.calibration), data.calibration.classes, accept_poor=recipe.data.accept_poor)
    elif recipe.precision != "auto" or recipe.sensitivity:
        raise CalibrationError(
            f"'{model.name}' was not trained on {data.provenance.dataset}; give clips of its own data with --data DATA"
        )


def _resolved(recipe: Recipe, model: LoadedModel, data: ExportData, context: Context) -> Recipe:
    return replace(
        with_clip(recipe, model),
        source=model.source if context.module is not None else recipe.source,
        is_module_object=context.module is not None,
        weights_sha256=model.weights_sha256,
        data_digest=data.source.digest if data.source else "",
    )


def _decisions(model: LoadedModel, data: ExportData) -> list[Decision]:
    decisions: list[Decision] = list(model.notes)
    if data.note:
        decisions.append(data.note)
    if skipped := sum(data.calibration.skipped.values()):
        decisions.append(VideosSkipped(count=skipped))
    return decisions
