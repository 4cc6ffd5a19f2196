"""What `edgeact evaluate` does: a bundle and a data set in, an accuracy record out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from edgeact.bundle import open_bundle
from edgeact.calibration.accuracy import DataSource, collect_scores, summarize
from edgeact.calibration.clips import spread
from edgeact.calibration.datasets import Dataset, VideoItem, load_dataset
from edgeact.devices import probe_machine
from edgeact.errors import DatasetError
from edgeact.records import AccuracyRecord
from edgeact.runtime import load

__all__ = ["EvaluationPlan", "evaluate_bundle", "with_model_labels"]


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


def evaluate_bundle(
    path: Path, plan: EvaluationPlan, on_progress: Callable[[int, int], None] | None = None
) -> AccuracyRecord:
    """Accuracy of the bundle at `path`; raises DatasetError where the labels are not the model's."""
    dataset = load_dataset(plan.data)
    split = plan.split or next(name for name in ("test", "val", "train") if dataset.splits.get(name))
    with load(
        path, backend=plan.backend, artifact=plan.artifact, threads=plan.threads, trust_engines=plan.trust_engines
    ) as recognizer:
        manifest, choice = open_bundle(path).manifest, recognizer.choice
        chosen = tuple(itertools.islice(spread(dataset.split(split)), plan.videos))
        items = with_model_labels(chosen, dataset, manifest.labels)
        scores = collect_scores({"bundle": recognizer.logits}, items, manifest.clip, on_progress)["bundle"]
    scores.skipped.update(dataset.skipped)
    digest = replace(dataset, splits={split: chosen}).digest(split)
    return AccuracyRecord(
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        bundle_digest=open_bundle(path).digest,
        model=manifest.model.name,
        artifact=choice.artifact,
        precision=choice.precision,
        backend=choice.backend,
        device=choice.device,
        machine=probe_machine(),
        accuracy=summarize(scores, DataSource(dataset.name, split, digest, manifest.labels)),
    )


def with_model_labels(items: Sequence[VideoItem], dataset: Dataset, labels: Sequence[str]) -> tuple[VideoItem, ...]:
    """The items with the model's label numbers in place of the data set's.

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
    return tuple(replace(item, label=numbers[dataset.labels[item.label]]) for item in items)
