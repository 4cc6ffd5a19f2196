"""The videos an export works with: clips to calibrate on, clips to compare on, videos to measure accuracy on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeact.bundle import Calibration
from edgeact.calibration.accuracy import DataSource
from edgeact.calibration.clips import ClipSample, sample_clips, spread
from edgeact.calibration.datasets import Dataset, VideoItem, load_dataset
from edgeact.calibration.evaluation import with_model_labels
from edgeact.clip import ClipSpec
from edgeact.errors import CalibrationError, DatasetError
from edgeact.export.quantize.static import METHOD, check_clips

__all__ = ["DEFAULT_DATA", "RANDOM_DATA", "DataPlan", "ExportData", "gather"]

# Rendered into the user's cache on first use; its persons are split as those of the shipped weights' training were.
DEFAULT_DATA = "stick-actions?train=192&val=24&test=480&seed=0"
RANDOM_DATA = "random"
_PARITY_CLIPS = 24


@dataclass(frozen=True)
class DataPlan:
    """Which data set, and how much of it."""

    spec: str | None
    """None: the project's own stick-actions."""
    calibration_clips: int = 96
    evaluation_videos: int = 240
    accept_poor: bool = False
    seed: int = 0


@dataclass(frozen=True)
class ExportData:
    """What the plan came to; videos never serve both calibration and evaluation."""

    calibration: ClipSample
    provenance: Calibration
    parity: ClipSample
    evaluation: tuple[VideoItem, ...]
    source: DataSource | None
    """None: the labels are not the model's, so accuracy cannot be measured."""
    note: str | None = None


def gather(plan: DataPlan, labels: Sequence[str], clip: ClipSpec) -> ExportData:
    """Load, sample and split the data; raises DatasetError, VideoError or CalibrationError naming what is missing."""
    if plan.spec == RANDOM_DATA:
        return _random(plan, labels, clip)
    dataset = load_dataset(plan.spec or DEFAULT_DATA)
    calibration_items, evaluation_split, evaluation_items = _split(dataset)
    calibration = sample_clips(calibration_items, clip, plan.calibration_clips, plan.seed)
    check_clips(len(calibration), accept_poor=plan.accept_poor)
    parity = sample_clips(evaluation_items, clip, _PARITY_CLIPS, plan.seed)
    chosen = tuple(itertools.islice(spread(evaluation_items, plan.seed), plan.evaluation_videos))
    note = None
    try:
        chosen_items = with_model_labels(chosen, dataset, labels)
    except DatasetError as error:
        chosen_items, note = chosen, f"accuracy not measured: {error}"
    digest = replace(dataset, splits={"calibration": calibration.items}).digest("calibration")
    source = None
    if note is None:
        used = replace(dataset, splits={"evaluation": chosen}).digest("evaluation")
        source = DataSource(dataset.name, evaluation_split, used, tuple(labels))
    provenance = Calibration(
        dataset=dataset.name,
        split="train",
        data_digest=digest,
        clips=len(calibration),
        videos=len(calibration),
        classes=calibration.classes,
        method=METHOD,
        seed=plan.seed,
    )
    return ExportData(calibration, provenance, parity, chosen_items, source, note)


def _split(dataset: Dataset) -> tuple[tuple[VideoItem, ...], str, tuple[VideoItem, ...]]:
    """Items to calibrate on, and the name and items of the split to evaluate on; groups are never shared."""
    calibration = dataset.splits.get("train") or dataset.splits.get("val") or ()
    for name in ("test", "val"):
        if dataset.splits.get(name) and dataset.splits[name] != calibration:
            return calibration, name, dataset.splits[name]
    raise CalibrationError(
        f"data set '{dataset.name}' has only the splits {', '.join(dataset.splits)}; expected 'train' to calibrate on "
        "and 'test' or 'val' to evaluate on"
    )


def _random(plan: DataPlan, labels: Sequence[str], clip: ClipSpec) -> ExportData:
    if not plan.accept_poor:
        raise CalibrationError(
            "random clips calibrate nothing: expected real videos (--calib DATA); "
            "give --accept-poor-calibration to go on all the same"
        )
    rng = np.random.default_rng(plan.seed)
    inputs = tuple(
        rng.standard_normal(clip.input_shape, dtype=np.float32) for _ in range(max(plan.calibration_clips, 1))
    )
    real = gather(replace(plan, spec=None, calibration_clips=1), labels, clip)
    provenance = real.provenance.model_copy(
        update={
            "dataset": RANDOM_DATA,
            "split": "none",
            "clips": len(inputs),
            "videos": 0,
            "classes": 0,
            "synthetic": True,
            "data_digest": "0" * 64,
        }
    )
    return replace(real, calibration=ClipSample(inputs, ()), provenance=provenance)
