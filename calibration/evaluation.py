"""Evaluate a bundle on a data set and record its accuracy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from edgeact.bundle import open_bundle
from edgeact.calibration.accuracy import DataSource, Scores, require_videos, score_videos, summarize
from edgeact.calibration.clips import stratified_order
from edgeact.calibration.datasets import LOADING_STEP, Dataset, VideoItem, load_dataset
from edgeact.devices import probe_machine
from edgeact.errors import DatasetError, DeviceError
from edgeact.executors import Executors
from edgeact.precision import Precision
from edgeact.progress import OnProgress, OnStep, titled
from edgeact.records import AccuracyRecord
from edgeact.runtime import Check, load

__all__ = ["EvaluationPlan", "evaluate_bundle", "match_labels"]

_EVALUATING = "evaluating"
_CHUNK = 64  # videos; opening a bundle takes as long as evaluating a few of them


@dataclass(frozen=True)
class EvaluationPlan:
    """The data to evaluate on, and how to open the bundle.

    `split` defaults to the first of test, val and train that has videos; `videos` limits their number.
    """

    data: str
    split: str | None = None
    videos: int | None = None
    artifact: str | None = None
    backend: str | None = None
    threads: int | None = None
    trust_engines: bool = False
    check: Check = "auto"


def evaluate_bundle(
    path: Path, plan: EvaluationPlan, on_step: OnStep | None = None, executors: Executors | None = None
) -> AccuracyRecord:
    """Measure the accuracy of the bundle at `path`, by clip and by video.

    With executors that are not local, the videos are evaluated in chunks on their workers, which open the bundle at the
    same path; the result equals that of a single process. The record's machine is the caller's.
    `on_step(title, done, total)` reports progress.
    Raises DatasetError if the labels are not the model's, if the split is empty, or if no video can be read,
    DeviceError if workers open different artifacts or backends, and whatever opening the bundle raises.
    """
    dataset = load_dataset(plan.data, titled(on_step, LOADING_STEP))
    split = plan.split or next(name for name in ("test", "val", "train") if dataset.splits.get(name))
    bundle = open_bundle(path)
    dataset = match_labels(dataset, bundle.manifest.labels)
    items = tuple(itertools.islice(stratified_order(dataset.split(split)), plan.videos))
    if on_step:
        on_step("opening the bundle", 0, 0)
    if executors is None or executors.is_local:
        part = _evaluate_part(path, bundle.digest, plan, items, titled(on_step, _EVALUATING))
    else:
        part = _evaluate_remotely(path, bundle.digest, plan, items, executors.work, titled(on_step, _EVALUATING))
    require_videos(part.scores, len(items))
    part.scores.skipped.update(dataset.skipped)
    digest = replace(dataset, splits={split: items}).digest(split, titled(on_step, "hashing the videos"))
    artifact, precision, backend, device = part.opened
    return AccuracyRecord(
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        bundle_digest=bundle.digest,
        model=bundle.manifest.model.name,
        artifact=artifact,
        precision=precision,
        backend=backend,
        device=device,
        machine=probe_machine(),
        accuracy=summarize(part.scores, DataSource(dataset.name, split, digest, dataset.labels)),
    )


@dataclass(frozen=True)
class _Part:
    """Scores of a part of the videos; the artifact, precision, backend and device that computed them."""

    scores: Scores
    opened: tuple[str, Precision, str, str]


def _evaluate_part(
    path: Path, digest: str, plan: EvaluationPlan, items: Sequence[VideoItem], on_progress: OnProgress | None = None
) -> _Part:
    bundle = open_bundle(path)
    if bundle.digest != digest:
        raise DeviceError(
            f"bundle '{path}': expected digest {digest[:16]} as on the calling machine, got {bundle.digest[:16]} on a "
            "worker; copy the same file to every worker"
        )
    with load(
        path,
        backend=plan.backend,
        artifact=plan.artifact,
        threads=plan.threads,
        trust_engines=plan.trust_engines,
        check=plan.check,
    ) as recognizer:
        choice = recognizer.choice
        scores = score_videos({"bundle": recognizer.logits}, items, bundle.manifest.clip, on_progress)["bundle"]
    return _Part(scores, (choice.artifact, choice.precision, choice.backend, choice.device))


def _evaluate_remotely(
    path: Path,
    digest: str,
    plan: EvaluationPlan,
    items: Sequence[VideoItem],
    executor: Executor,
    on_progress: OnProgress | None,
) -> _Part:
    """Evaluate chunks of videos on the workers; concatenate their scores in the order of the videos."""
    videos = [replace(item, path=item.path.absolute()) for item in items]  # workers have other working folders
    chunks = [videos[start : start + _CHUNK] for start in range(0, len(videos), _CHUNK)]
    futures = {executor.submit(_evaluate_part, path.absolute(), digest, plan, chunk): chunk for chunk in chunks}
    done = 0
    for future in as_completed(futures):
        future.result()
        done += len(futures[future])
        if on_progress:
            on_progress(done, len(items))
    parts = [future.result() for future in futures]
    opened = sorted({part.opened for part in parts})
    if len(opened) > 1:
        choices = " and ".join(f"{artifact} on {backend} {device}" for artifact, _, backend, device in opened)
        raise DeviceError(
            f"expected the same artifact and backend on every worker, got {choices}; set --artifact and --backend"
        )
    return _Part(Scores.concatenate(part.scores for part in parts), opened[0])


def match_labels(dataset: Dataset, labels: Sequence[str]) -> Dataset:
    """Return `dataset` with its labels replaced by the model's `labels`, in the model's order; labels match by name.

    Raises DatasetError if the model lacks labels of the data set.
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
