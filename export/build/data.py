"""Data of a build: clips for calibration, clips for parity, videos for accuracy."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeact.bundle import Calibration
from edgeact.calibration.accuracy import DataSource
from edgeact.calibration.clips import ClipSample, sample_clips, stratified_order
from edgeact.calibration.datasets import LOADING_STEP, Dataset, VideoItem, load_dataset
from edgeact.calibration.evaluation import match_labels
from edgeact.calibration.range_methods import MethodName
from edgeact.clip import ClipSpec
from edgeact.errors import CalibrationError, DatasetError
from edgeact.export.quantize.qdq import describe
from edgeact.loading_notes import AccuracyNotMeasured, DataNote, UntestedClasses
from edgeact.progress import OnStep, titled

__all__ = [
    "DEFAULT_DATA",
    "RANDOM_DATA",
    "DataPlan",
    "ExportData",
    "ExportSplit",
    "gather",
    "gather_calibration",
    "split_for_export",
]

# Rendered into the user's cache on first use; persons are split as in the training of the shipped weights.
DEFAULT_DATA = "stick-actions?train=192&val=24&test=480&seed=0"
RANDOM_DATA = "random"
_PARITY_CLIPS = 24
_CARVED = 3  # one group in three calibrates if a data set has only one split


@dataclass(frozen=True)
class DataPlan:
    """Data set, amounts, and the calibration method."""

    spec: str | None
    """Data set; None: the project's stick-actions; 'random': random calibration clips, the rest from stick-actions."""
    calibration_clips: int = 64
    evaluation_videos: int = 240
    accept_poor: bool = False
    """Whether to continue with random clips, or with too few."""
    seed: int = 0
    method: MethodName = "minmax"


@dataclass(frozen=True)
class ExportData:
    """The data of a plan; no video and no group of videos is in both calibration and evaluation."""

    calibration: ClipSample
    provenance: Calibration
    parity: ClipSample
    evaluation: tuple[VideoItem, ...]
    labels: tuple[str, ...]
    """Labels of the items' label numbers: the model's, or the data set's if the data set lacks the model's."""
    source: DataSource | None
    """None: the labels are not the model's, so accuracy cannot be measured."""
    note: DataNote | None = None
    """Why accuracy cannot be measured, or which classes it says nothing about."""


@dataclass(frozen=True)
class ExportSplit:
    """Items for calibration and for evaluation, and the names of these parts."""

    calibration: tuple[VideoItem, ...]
    calibration_name: str
    evaluation: tuple[VideoItem, ...]
    evaluation_name: str


def gather(plan: DataPlan, labels: Sequence[str], clip: ClipSpec, on_step: OnStep | None = None) -> ExportData:
    """Load, split and sample the data; `on_step(title, done, total)` reports progress.

    Raises DatasetError or CalibrationError, naming what is missing.
    """
    if plan.spec == RANDOM_DATA:
        return _random(plan, labels, clip, on_step)
    loaded = _load(plan, labels, on_step)
    dataset, split = loaded.dataset, loaded.split
    note: DataNote | None = loaded.foreign
    calibration, provenance = _calibration(loaded, plan, clip, on_step)
    parity = sample_clips(split.evaluation, clip, _PARITY_CLIPS, plan.seed, titled(on_step, "parity clips"))
    chosen = _chosen(split, plan)
    source = None
    if note is None:
        source = DataSource(dataset.name, split.evaluation_name, _digest(dataset, chosen), tuple(labels))
        note = _untested(dataset, split)
    return ExportData(
        calibration=calibration,
        provenance=provenance,
        parity=parity,
        evaluation=chosen,
        labels=dataset.labels,
        source=source,
        note=note,
    )


def gather_calibration(
    plan: DataPlan, labels: Sequence[str], clip: ClipSpec, on_step: OnStep | None = None
) -> tuple[ClipSample, Calibration, tuple[str, ...]]:
    """Return only the calibration clips of `gather`, their provenance and the labels of their data set."""
    if plan.spec == RANDOM_DATA:
        return *_random_calibration(plan, clip), tuple(labels)
    loaded = _load(plan, labels, on_step)
    return *_calibration(loaded, plan, clip, on_step), loaded.dataset.labels


@dataclass(frozen=True)
class _Loaded:
    dataset: Dataset
    """With the model's labels, if the data set has them."""
    split: ExportSplit
    foreign: AccuracyNotMeasured | None
    """Why its labels are not the model's; None if they are."""


def _chosen(split: ExportSplit, plan: DataPlan) -> tuple[VideoItem, ...]:
    return tuple(itertools.islice(stratified_order(split.evaluation, plan.seed), plan.evaluation_videos))


def _load(plan: DataPlan, labels: Sequence[str], on_step: OnStep | None) -> _Loaded:
    dataset, foreign = load_dataset(plan.spec or DEFAULT_DATA, titled(on_step, LOADING_STEP)), None
    try:
        dataset = match_labels(dataset, labels)
    except DatasetError as error:
        foreign = AccuracyNotMeasured(error=str(error))
    return _Loaded(dataset, split_for_export(dataset), foreign)


def _calibration(
    loaded: _Loaded, plan: DataPlan, clip: ClipSpec, on_step: OnStep | None
) -> tuple[ClipSample, Calibration]:
    dataset, split = loaded.dataset, loaded.split
    progress = titled(on_step, "calibration clips")
    sample = sample_clips(split.calibration, clip, plan.calibration_clips, plan.seed, progress)
    provenance = Calibration(
        dataset=dataset.name,
        split=split.calibration_name,
        data_digest=_digest(dataset, sample.items),
        clips=len(sample),
        videos=len(sample),
        classes=sample.classes,
        groups=sample.groups,
        method=describe(plan.method),
        seed=plan.seed,
    )
    return sample, provenance


def split_for_export(dataset: Dataset) -> ExportSplit:
    """Return 'train' for calibration and 'test', otherwise 'val', for evaluation; divide a lone split by groups."""
    there = [name for name in ("train", "val", "test") if dataset.splits.get(name)]
    if len(there) > 1:
        first, last = there[0], there[-1]
        return ExportSplit(dataset.splits[first], first, dataset.splits[last], last)
    (name,) = there
    items = dataset.splits[name]
    groups = sorted({item.group for item in items}, key=lambda group: hashlib.sha256(group.encode()).digest())
    if len(groups) < 2:
        raise CalibrationError(
            f"data set '{dataset.name}': all {len(items)} videos of its one split '{name}' belong to group "
            f"'{groups[0]}'; expected at least 2 groups, for videos to calibrate on must not be evaluated on"
        )
    taken = set(groups[: max(1, len(groups) // _CARVED)])
    return ExportSplit(
        tuple(item for item in items if item.group in taken),
        f"{name} ({len(taken)} of {len(groups)} groups)",
        tuple(item for item in items if item.group not in taken),
        f"{name} ({len(groups) - len(taken)} of {len(groups)} groups)",
    )


def _untested(dataset: Dataset, split: ExportSplit) -> UntestedClasses | None:
    """Return a note of the classes without a video to measure accuracy on; None if there is none."""
    there = {item.label for items in dataset.splits.values() for item in items}
    missing = sorted(there - {item.label for item in split.evaluation})
    if not missing:
        return None
    label, others = dataset.labels[missing[0]], len(missing) - 1
    return UntestedClasses(label=label, others=others, split=split.evaluation_name)


def _digest(dataset: Dataset, items: tuple[VideoItem, ...]) -> str:
    return replace(dataset, splits={"used": items}).digest("used")


def _random(plan: DataPlan, labels: Sequence[str], clip: ClipSpec, on_step: OnStep | None) -> ExportData:
    calibration, provenance = _random_calibration(plan, clip)
    real = gather(replace(plan, spec=None, calibration_clips=1), labels, clip, on_step)
    return replace(real, calibration=calibration, provenance=provenance)


def _random_calibration(plan: DataPlan, clip: ClipSpec) -> tuple[ClipSample, Calibration]:
    if not plan.accept_poor:
        raise CalibrationError(
            "random clips calibrate nothing: expected real videos (--data DATA); "
            "give --accept-poor-calibration to go on all the same"
        )
    rng = np.random.default_rng(plan.seed)
    inputs = tuple(rng.standard_normal(clip.input_shape, dtype=np.float32) for _ in range(plan.calibration_clips))
    provenance = Calibration(
        dataset=RANDOM_DATA,
        split="none",
        data_digest=hashlib.sha256(b"".join(array.tobytes() for array in inputs)).hexdigest(),
        clips=len(inputs),
        videos=0,
        classes=0,
        method=describe(plan.method),
        seed=plan.seed,
        synthetic=True,
    )
    return ClipSample(inputs, ()), provenance
