"""Group comparable candidates and search trials into scatters of accuracy against latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeact.records import Accuracy, Machine, Row, SearchTrial, Verdict
from edgeact.report.formatting import accuracy_key
from edgeact.report.view import BundleView, Point, Scatter, SearchView

__all__ = ["bundle_scatters", "search_scatter"]

_Member = tuple[BundleView, Row, Accuracy]


def bundle_scatters(bundles: Sequence[BundleView]) -> tuple[Scatter, ...]:
    """Return a scatter for each machine and data set, then a scatter of estimates for each target.

    The accuracy is that by video if there is one, else that by clip.
    """
    groups: dict[tuple[str | None, str, str], list[_Member]] = {}
    machines: dict[str, Machine] = {}
    for bundle in bundles:
        if bundle.measurements is None:
            continue
        machine, target = bundle.measurements.machine, bundle.measurements.target
        machines.setdefault(machine.fingerprint, machine)
        for row in bundle.rows:
            if row.latency is None and row.latency_estimate_ms is None:
                continue
            for accuracy in _preferred_level(row.accuracy):
                data = f"{accuracy.data_digest} {accuracy_key(accuracy)}"
                key = (None if row.latency else target, machine.fingerprint, data)
                groups.setdefault(key, []).append((bundle, row, accuracy))
    scatters = (
        Scatter(
            machine=machines[fingerprint],
            estimated_for=estimated_for,
            data=accuracy_key(members[0][2]),
            points=_points(members),
        )
        for (estimated_for, fingerprint, _), members in groups.items()
    )
    return tuple(sorted(scatters, key=lambda scatter: scatter.estimated_for is not None))


def search_scatter(search: SearchView) -> Scatter | None:
    """Return the scatter of all trials of a search that have accuracy and latency; None if there are none."""
    record = search.record
    points = tuple(point for trial in record.trials if (point := _trial_point(search, trial)))
    if not points:
        return None
    return Scatter(
        machine=record.machine,
        estimated_for=record.target if record.is_estimate else None,
        data=f"{record.dataset} {record.split}, videos; trials of the search of {record.model}",
        points=points,
    )


def _trial_point(search: SearchView, trial: SearchTrial) -> Point | None:
    record, latency = search.record, trial.latency
    if trial.latency_ms is None or trial.top1 is None or trial.top1_interval is None:
        return None
    is_on_front = trial.number in record.front
    verdict: Verdict = "candidate" if is_on_front else "rejected"
    return Point(
        label=f"trial {trial.number}" if is_on_front else str(trial.number),
        bundle=search.file,
        precision=trial.precision,
        verdict="chosen" if trial.number == record.chosen else verdict,
        p50_ms=latency.p50_ms if latency else None,
        p50_interval=latency.p50_interval if latency else None,
        latency_estimate_ms=None if latency else trial.latency_estimate_ms,
        top1=trial.top1,
        top1_interval=trial.top1_interval,
    )


def _preferred_level(accuracies: tuple[Accuracy, ...]) -> list[Accuracy]:
    by_video = [accuracy for accuracy in accuracies if accuracy.level == "video"]
    return by_video or list(accuracies)


def _points(members: Sequence[_Member]) -> tuple[Point, ...]:
    labels = _unique_labels([(row.artifact, row.backend, Path(bundle.name).stem) for bundle, row, _ in members])
    return tuple(
        Point(
            label=label,
            bundle=bundle.name,
            precision=row.precision,
            verdict=row.verdict,
            p50_ms=row.latency.p50_ms if row.latency else None,
            p50_interval=row.latency.p50_interval if row.latency else None,
            latency_estimate_ms=None if row.latency else row.latency_estimate_ms,
            top1=accuracy.top1,
            top1_interval=accuracy.top1_interval,
        )
        for label, (bundle, row, accuracy) in zip(labels, members, strict=True)
    )


def _unique_labels(parts: Sequence[tuple[str, str, str]]) -> list[str]:
    """Join the shortest unique prefix of each (artifact, backend, bundle)."""
    labels = []
    for names in parts:
        lengths = (length for length in (1, 2) if sum(other[:length] == names[:length] for other in parts) == 1)
        labels.append(" · ".join(names[: next(lengths, 3)]))
    return labels
