"""Recipes of a search: its trials are builds, and the recipe of a trial follows from the record alone."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import torch

from edgeact.clip import ClipSpec
from edgeact.errors import DatasetError, EdgeactError, UsageError
from edgeact.export.build import Build, Compression, DataPlan, Recipe, build, through
from edgeact.export.build.data import DEFAULT_DATA
from edgeact.export.models.loading import LoadRequest, load_model
from edgeact.export.models.spec import resized_clip
from edgeact.export.prune import PruneRequest
from edgeact.export.search.space import ClipSize, Config
from edgeact.export.train.plan import TrainPlan
from edgeact.phrases import phrase
from edgeact.records import SearchRecipe

__all__ = ["at_size", "training_plan", "trial_recipe", "unpruned", "why_refused"]

_LEARNING_RATE = 1e-3


def trial_recipe(search: SearchRecipe, target: str, config: Config) -> Recipe:
    """Return the recipe that builds `config` of a search; the search itself and `export --trial` build by it."""
    in_int8 = set(config.int8)
    kept = [module for stage, modules in search.stages.items() if stage not in in_int8 for module in modules]
    return Recipe(
        target=target,
        source=search.source,
        load=LoadRequest(
            weights=Path(search.weights) if search.weights else None,
            labels=search.labels,
            width=search.width,
            clip=_sized(search.clip, config.clip),
        ),
        weights_sha256=search.weights_sha256,
        data=DataPlan(
            search.data or None,
            search.calibration_clips,
            search.evaluation_videos,
            search.accept_poor_calibration,
            search.seed,
        ),
        data_digest=search.data_digest,
        compression=_compression(search, config),
        precision="int8" if in_int8 else "fp16",
        float_modules=tuple(kept) if in_int8 else (),
        threads=search.threads,
    )


def unpruned(recipe: Recipe) -> Build:
    """Return the build of a recipe as far as the unpruned model and its data; one object for all trials of one clip.

    Raises what loading raises, UsageError for random weights, and DatasetError if the labels of the data are not the
    model's.
    """
    return _unpruned(replace(recipe, compression=None, float_modules=(), precision="auto", max_drop_points=1.0))


@functools.lru_cache(maxsize=4)
def _unpruned(recipe: Recipe) -> Build:
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    built = build(recipe, through("load"))
    model, data = built.inputs.model, built.inputs.data
    if not model.trained:
        raise UsageError(f"the weights of '{model.name}' are random, without an accuracy to lose; give --weights FILE")
    if data.source is None:
        reason = phrase(data.note) if data.note else "no data was given"
        raise DatasetError(f"a search needs the accuracy of every trial: {reason}")
    return built


def at_size(recipe: Recipe, size: ClipSize) -> Recipe:
    """Return a resolved recipe with another clip size."""
    if recipe.load.clip is None:
        raise UsageError("expected a recipe with its clip contract, got options only; build the stage 'load' first")
    return replace(recipe, load=replace(recipe.load, clip=_sized(recipe.load.clip, size)))


def why_refused(recipe: Recipe, size: ClipSize) -> str:
    """Return why the model of a resolved recipe does not run with clips of that size; empty if it does."""
    try:
        load_model(recipe.source, at_size(recipe, size).load)
    except EdgeactError as error:
        return str(error)
    return ""


def training_plan(epochs: int, seed: int) -> TrainPlan:
    """Return how each pruned configuration of a search is fine-tuned."""
    return TrainPlan(epochs=epochs, learning_rate=_LEARNING_RATE, seed=seed)


def _sized(clip: ClipSpec, size: ClipSize) -> ClipSpec:
    """Return `clip` with other frames over the same time, so that its windows stay the same, and another crop."""
    fps = clip.fps * size.clip_frames / clip.clip_frames
    pixels = None if clip.crop[0] == size.size else size.size
    return resized_clip(clip, clip_frames=size.clip_frames, size=pixels, fps=fps)


def _compression(search: SearchRecipe, config: Config) -> Compression | None:
    if not config.pruned:
        return None
    ratios = {pattern: config.ratios[stage] for stage, patterns in search.patterns.items() for pattern in patterns}
    prune = PruneRequest(0.0, ratios=ratios, channel_multiple=search.channel_multiple)
    if not search.finetune_epochs:
        return Compression(prune, search.channel_multiple)
    train = training_plan(search.finetune_epochs, search.seed)
    return Compression(prune, search.channel_multiple, search.data or DEFAULT_DATA, train=train)
