"""What `edgeact evaluate` does: a bundle and a data set in, an accuracy record out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from edgeact.bundle import open_bundle
from edgeact.calibration.accuracy import DataSource, collect_scores, summarize
from edgeact.calibration.clips import spread
from edgeact.calibration.datasets import LOADING_STEP, Dataset, load_dataset
from edgeact.devices import probe_machine
from edgeact.errors import DatasetError
from edgeact.progress import OnStep, titled
from edgeact.records import AccuracyRecord
from edgeact.runtime import load

__all__ = ["EvaluationPlan", "evaluate_bundle", "in_model_labels"]


@dataclass(frozen=True)
class EvaluationPlan:
    """What to evaluate on, and how to open the bundle."""

    data: str
    split: str | None = None
    videos: int | None = None
    artifact: str | None = None
    backend: str | None = None
    threads: int | None = None
    trust_engines: bool = False


def evaluate_bundle(path: Path, plan: EvaluationPlan, on_step: OnStep | None = None) -> AccuracyRecord:
    """Accuracy of the bundle at `path`, of clips and of videos.

    Raises DatasetError where the labels are not the model's, the split is empty, or no video of it can be read, and
    whatever opening the bundle raises. `on_step(title, done, total)` is called as it goes on.
    """
    dataset = load_dataset(plan.data, titled(on_step, LOADING_STEP))
    split = plan.split or next(name for name in ("test", "val", "train") if dataset.splits.get(name))
    bundle = open_bundle(path)
    dataset = in_model_labels(dataset, bundle.manifest.labels)
    items = tuple(itertools.islice(spread(dataset.split(split)), plan.videos))
    if on_step:
        on_step("opening the bundle", 0, 0)
    with load(
        path, backend=plan.backend, artifact=plan.artifact, threads=plan.threads, trust_engines=plan.trust_engines
    ) as recognizer:
        choice = recognizer.choice
        evaluating = titled(on_step, "evaluating")
        scores = collect_scores({"bundle": recognizer.logits}, items, bundle.manifest.clip, evaluating)["bundle"]
    scores.skipped.update(dataset.skipped)
    digest = replace(dataset, splits={split: items}).digest(split, titled(on_step, "hashing the videos"))
    return AccuracyRecord(
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        bundle_digest=bundle.digest,
        model=bundle.manifest.model.name,
        artifact=choice.artifact,
        precision=choice.precision,
        backend=choice.backend,
        device=choice.device,
        machine=probe_machine(),
        accuracy=summarize(scores, DataSource(dataset.name, split, digest, dataset.labels)),
    )


def in_model_labels(dataset: Dataset, labels: Sequence[str]) -> Dataset:
    """The data set with the model's labels, in the model's order, in place of its own; matched by name.

    Raises DatasetError naming labels of the data set that the model does not know.
    """
    missing = sorted(set(dataset.labels) - set(labels))
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DatasetError(
            f"data set '{dataset.name}' has {len(missing)} labels the model does not know ({shown}); "
            f"expected labels of {', '.join(labels[:3])}, ..."
        )
    numbers = {label: index for index, label in enumerate(labels)}
    splits = {
        name: tuple(replace(item, label=numbers[dataset.labels[item.label]]) for item in items)
        for name, items in dataset.splits.items()
    }
    return replace(dataset, labels=tuple(labels), splits=splits)
