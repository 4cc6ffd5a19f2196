"""What `edgeact evaluate` does: a bundle and a data set in, an accuracy record out."""

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
from edgeact.progress import OnProgress, OnStep, titled
from edgeact.records import AccuracyRecord, Precision
from edgeact.runtime import load

__all__ = ["EvaluationPlan", "evaluate_bundle", "match_labels"]

_EVALUATING = "evaluating"
_CHUNK = 64  # videos; opening a bundle takes as long as a few of them


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
    path: Path, plan: EvaluationPlan, on_step: OnStep | None = None, executors: Executors | None = None
) -> AccuracyRecord:
    """Accuracy of the bundle at `path`, of clips and of videos.

    With executors the videos are dealt out in chunks to be evaluated wherever those run, each with the bundle opened at
    the same path; joined again they are what one process would have counted. The record's machine is the caller's.
    Raises DatasetError where the labels are not the model's, the split is empty, or no video of it can be read,
    DeviceError where another machine opens another artifact or backend, and whatever opening the bundle raises.
    `on_step(title, done, total)` is called as it goes on.
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
        part = _dealt_out(path, bundle.digest, plan, items, executors.work, titled(on_step, _EVALUATING))
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
    """What some of the videos came to, and by which artifact, precision, backend and device."""

    scores: Scores
    opened: tuple[str, Precision, str, str]


def _evaluate_part(
    path: Path, digest: str, plan: EvaluationPlan, items: Sequence[VideoItem], on_progress: OnProgress | None = None
) -> _Part:
    bundle = open_bundle(path)
    if bundle.digest != digest:
        raise DeviceError(f"this machine has another bundle at '{path}' than the caller; copy the same file there")
    with load(
        path, backend=plan.backend, artifact=plan.artifact, threads=plan.threads, trust_engines=plan.trust_engines
    ) as recognizer:
        choice = recognizer.choice
        scores = score_videos({"bundle": recognizer.logits}, items, bundle.manifest.clip, on_progress)["bundle"]
    return _Part(scores, (choice.artifact, choice.precision, choice.backend, choice.device))


def _dealt_out(
    path: Path,
    digest: str,
    plan: EvaluationPlan,
    items: Sequence[VideoItem],
    executor: Executor,
    on_progress: OnProgress | None,
) -> _Part:
    """All chunks, in order, however they came in."""
    found = [replace(item, path=item.path.absolute()) for item in items]  # others work in other folders
    chunks = [found[start : start + _CHUNK] for start in range(0, len(found), _CHUNK)]
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
        told = " and ".join(f"{one[0]} on {one[2]} {one[3]}" for one in opened)
        raise DeviceError(f"the machines opened different things ({told}); choose one with --artifact and --backend")
    return _Part(Scores.concatenate(part.scores for part in parts), opened[0])


def match_labels(dataset: Dataset, labels: Sequence[str]) -> Dataset:
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
