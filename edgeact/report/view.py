"""What a report shows: bundles and latency records brought into one shape, with nothing computed anew.

HTML, Markdown and JSON are three ways to write this one view.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeact.bundle import open_bundle
from edgeact.bundle.manifest import Manifest
from edgeact.errors import UsageError
from edgeact.records import (
    Accuracy,
    ClassAccuracy,
    Interval,
    Latency,
    LatencyRecord,
    Machine,
    Measurements,
    Precision,
    Row,
    Verdict,
)
from edgeact.report.words import accuracy_key

__all__ = ["BundleView", "Point", "Report", "Scatter", "build_report", "read_inputs", "view_bundle"]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Point(_View):
    """One measured variant in a scatter."""

    label: str
    bundle: str
    precision: Precision
    verdict: Verdict
    p50_ms: float
    p50_interval: Interval
    top1: float
    top1_interval: Interval


class Scatter(_View):
    """Variants that may be compared: latency measured on one machine, accuracy over the same data."""

    machine: Machine
    data: str = Field(description="data set, split and level of the accuracy")
    points: tuple[Point, ...]


class BundleView(_View):
    """One bundle: its manifest and its measurements, single latency samples left out."""

    name: str = Field(description="file name")
    digest: str
    size_bytes: int
    manifest: Manifest
    measurements: Measurements | None

    @property
    def rows(self) -> tuple[Row, ...]:
        """All variants that were looked at; none where the bundle holds no measurements."""
        return self.measurements.rows if self.measurements else ()

    @property
    def chosen(self) -> Row | None:
        """The variant that the export chose, where it did."""
        return next((row for row in self.rows if row.verdict == "chosen"), None)

    @property
    def accuracy_keys(self) -> tuple[str, ...]:
        """Every data set, split and level that a variant's accuracy was counted over, in order of appearance."""
        return tuple(dict.fromkeys(accuracy_key(accuracy) for row in self.rows for accuracy in row.accuracy))

    def accuracy(self, row: Row, key: str) -> Accuracy | None:
        """The accuracy of `row` over what `key` names."""
        return next((accuracy for accuracy in row.accuracy if accuracy_key(accuracy) == key), None)

    def classed(self, key: str) -> tuple[tuple[Row, Accuracy], ...]:
        """The variants with accuracies by class over what `key` names, the chosen one first."""
        found = [(row, self.accuracy(row, key)) for row in self.rows]
        known = [(row, accuracy) for row, accuracy in found if accuracy and accuracy.per_class]
        return tuple(sorted(known, key=lambda pair: pair[0].verdict != "chosen"))

    def confused(self, key: str) -> tuple[tuple[Row, Accuracy], ...]:
        """The variants with a confusion table over what `key` names, the chosen one first."""
        return tuple((row, accuracy) for row, accuracy in self.classed(key) if accuracy.confusion)

    def class_accuracy(self, accuracy: Accuracy, label: str) -> ClassAccuracy | None:
        """The part of `accuracy` that is of one class."""
        return next((each for each in accuracy.per_class if each.label == label), None)

    @property
    def estimated(self) -> tuple[Row, ...]:
        """Variants whose latency is an estimate only."""
        return tuple(row for row in self.rows if row.latency is None and row.latency_estimate_ms is not None)

    @property
    def skipped(self) -> dict[str, int]:
        """Videos that the accuracies left out: 'data: reason' -> number."""
        counts = {}
        for row in self.rows:
            for accuracy in row.accuracy:
                for reason, number in accuracy.skipped.items():
                    counts[f"{accuracy.dataset} {accuracy.split}: {reason}"] = number
        return counts


class Report(_View):
    """Everything that one report shows."""

    bundles: tuple[BundleView, ...]
    scatters: tuple[Scatter, ...]
    latency_records: tuple[LatencyRecord, ...] = ()

    @property
    def title(self) -> str:
        """What the report is of, in one line."""
        names = [f"{bundle.manifest.model.name} for {bundle.manifest.target}" for bundle in self.bundles]
        names = names or [f"{record.model} / {record.artifact}" for record in self.latency_records]
        return ", ".join(dict.fromkeys(names))


def read_inputs(paths: Iterable[str | Path]) -> Report:
    """The report of bundles and of latency records (JSON, of `edgeact bench --out`), told apart by their content.

    Raises UsageError for a JSON file that is no latency record, and what `open_bundle` raises for a bad bundle.
    """
    bundles: list[BundleView] = []
    records: list[LatencyRecord] = []
    for path in map(Path, paths):
        record = _read_record(path)
        if record:
            records.append(record)
        else:
            bundles.append(view_bundle(path))
    return build_report(bundles, records)


def view_bundle(path: str | Path) -> BundleView:
    """Open and verify the bundle at `path`; raises a BundleError where it must not be used."""
    bundle = open_bundle(path)
    return BundleView(
        name=Path(path).name,
        digest=bundle.digest,
        size_bytes=Path(path).stat().st_size,
        manifest=bundle.manifest,
        measurements=bundle.measurements,
    )


def build_report(bundles: Iterable[BundleView], records: Iterable[LatencyRecord] = ()) -> Report:
    """Bring bundles and records into one report; the single latency samples stay in the records."""
    slim = tuple(_without_samples(bundle) for bundle in bundles)
    return Report(
        bundles=slim,
        scatters=_scatters(slim),
        latency_records=tuple(
            record.model_copy(
                update={
                    "latency": _bare(record.latency),
                    "stages": {name: _bare(stage) for name, stage in record.stages.items()},
                }
            )
            for record in records
        ),
    )


def _read_record(path: Path) -> LatencyRecord | None:
    """The latency record in `path`; None where the file is none that starts as JSON does."""
    try:
        with path.open("rb") as handle:
            if handle.read(1) != b"{":
                return None
        return LatencyRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from error
    except ValidationError as error:
        raise UsageError(
            f"'{path}' is neither a bundle nor a latency record of edgeact bench --out: {error.errors()[0]['msg']}"
        ) from error


def _without_samples(bundle: BundleView) -> BundleView:
    if bundle.measurements is None:
        return bundle
    rows = tuple(
        row.model_copy(update={"latency": _bare(row.latency)}) if row.latency else row
        for row in bundle.measurements.rows
    )
    return bundle.model_copy(update={"measurements": bundle.measurements.model_copy(update={"rows": rows})})


def _bare(latency: Latency) -> Latency:
    return latency.model_copy(update={"samples_ms": ()})


def _scatters(bundles: tuple[BundleView, ...]) -> tuple[Scatter, ...]:
    """One scatter for every machine and data set; over videos where they were counted, else over clips."""
    groups: dict[tuple[str, str], list[tuple[BundleView, Row, Accuracy]]] = {}
    machines: dict[str, Machine] = {}
    for bundle in bundles:
        if bundle.measurements is None:
            continue
        machine = bundle.measurements.machine
        machines.setdefault(machine.fingerprint, machine)
        for row in bundle.rows:
            for accuracy in _one_level(row.accuracy):
                if row.latency:
                    key = (machine.fingerprint, f"{accuracy.data_digest} {accuracy_key(accuracy)}")
                    groups.setdefault(key, []).append((bundle, row, accuracy))
    return tuple(
        Scatter(machine=machines[fingerprint], data=accuracy_key(members[0][2]), points=_points(members))
        for (fingerprint, _), members in groups.items()
    )


def _one_level(accuracies: tuple[Accuracy, ...]) -> list[Accuracy]:
    of_videos = [accuracy for accuracy in accuracies if accuracy.level == "video"]
    return of_videos or list(accuracies)


def _points(members: list[tuple[BundleView, Row, Accuracy]]) -> tuple[Point, ...]:
    labels = _labels([(row.artifact, row.backend, Path(bundle.name).stem) for bundle, row, _ in members])
    return tuple(
        Point(
            label=label,
            bundle=bundle.name,
            precision=row.precision,
            verdict=row.verdict,
            p50_ms=row.latency.p50_ms,
            p50_interval=row.latency.p50_interval,
            top1=accuracy.top1,
            top1_interval=accuracy.top1_interval,
        )
        for label, (bundle, row, accuracy) in zip(labels, members, strict=True)
        if row.latency
    )


def _labels(parts: list[tuple[str, str, str]]) -> list[str]:
    """For each (artifact, backend, bundle) the shortest beginning, joined, that no other one shares."""
    labels = []
    for own in parts:
        lengths = (length for length in (1, 2) if sum(other[:length] == own[:length] for other in parts) == 1)
        labels.append(" · ".join(own[: next(lengths, 3)]))
    return labels
