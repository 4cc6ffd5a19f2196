"""What a report shows: bundles and records brought into one shape, with nothing computed anew.

HTML, Markdown and JSON are three ways to write this one view.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edgeact.bundle import open_bundle
from edgeact.bundle.manifest import Manifest
from edgeact.errors import MissingFileError, UsageError
from edgeact.records import (
    Accuracy,
    AccuracyRecord,
    ClassAccuracy,
    Interval,
    Latency,
    LatencyRecord,
    Machine,
    Measurements,
    Precision,
    Row,
    SearchRecord,
    SearchTrial,
    Verdict,
)
from edgeact.report.formatting import accuracy_key

__all__ = ["BundleView", "Point", "Report", "Scatter", "SearchView", "build_report", "read_inputs", "view_bundle"]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Point(_View):
    """One variant in a scatter: its latency is measured, with an interval, or an estimate, without one."""

    label: str
    bundle: str
    precision: Precision
    verdict: Verdict
    p50_ms: float | None = Field(description="None: not measured")
    p50_interval: Interval | None
    latency_estimate_ms: float | None = Field(description="roofline estimate, only where nothing was measured")
    top1: float
    top1_interval: Interval

    @property
    def is_estimate(self) -> bool:
        """Whether its latency was never measured."""
        return self.p50_ms is None

    @property
    def latency_ms(self) -> float:
        """The measured median, else the estimate."""
        return next(value for value in (self.p50_ms, self.latency_estimate_ms) if value is not None)


class Scatter(_View):
    """Variants that may be compared: accuracy over the same data, latency of one machine or estimated for one board."""

    machine: Machine = Field(description="where accuracy was counted and latency, unless it is an estimate, measured")
    estimated_for: str | None = Field(description="the target whose roofline all latencies are; None: all are measured")
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

    @property
    def has_drops(self) -> bool:
        """Whether a variant's loss of accuracy against the unpruned model was counted."""
        return any(row.drop for row in self.rows)

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
        return self._by_data(lambda accuracy: accuracy.skipped)

    @property
    def handled(self) -> dict[str, int]:
        """Odd videos that the accuracies count all the same: 'data: oddity' -> number."""
        return self._by_data(lambda accuracy: accuracy.handled)

    def _by_data(self, numbers: Callable[[Accuracy], dict[str, int]]) -> dict[str, int]:
        return {
            f"{accuracy.dataset} {accuracy.split}: {what}": number
            for row in self.rows
            for accuracy in row.accuracy
            for what, number in numbers(accuracy).items()
        }


class SearchView(_View):
    """One search, and the file its commands name."""

    file: str
    record: SearchRecord

    def command(self, number: int) -> str:
        """What exports one of its trials."""
        return f"edgeact export --trial {shlex.quote(f'{self.file}:{number}')}"


class Report(_View):
    """Everything that one report shows."""

    bundles: tuple[BundleView, ...]
    scatters: tuple[Scatter, ...]
    latency_records: tuple[LatencyRecord, ...] = ()
    accuracy_records: tuple[AccuracyRecord, ...] = ()
    searches: tuple[SearchView, ...] = ()

    @property
    def title(self) -> str:
        """What the report is of, in one line."""
        names = [f"{bundle.manifest.model.name} for {bundle.manifest.target}" for bundle in self.bundles]
        records: tuple[_Record, ...] = (*self.latency_records, *self.accuracy_records)
        names = names or [f"{record.model} / {record.artifact}" for record in records]
        names += [f"search of {search.record.model} for {search.record.target}" for search in self.searches]
        return ", ".join(dict.fromkeys(names))


_Record = LatencyRecord | AccuracyRecord


def read_inputs(paths: Iterable[str | Path]) -> Report:
    """The report of bundles and records (JSON, of `bench --out` and `evaluate --out`), told apart by their content.

    Raises UsageError for a JSON file that is no such record, and what `open_bundle` raises for a bad bundle.
    """
    bundles: list[BundleView] = []
    records: list[_Record] = []
    searches: list[SearchView] = []
    for path in map(Path, paths):
        record = _read_record(path)
        if isinstance(record, SearchRecord):
            searches.append(SearchView(file=str(path), record=record))
        elif record:
            records.append(record)
        else:
            bundles.append(view_bundle(path))
    return build_report(bundles, records, searches)


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


def build_report(
    bundles: Iterable[BundleView], records: Iterable[_Record] = (), searches: Iterable[SearchView] = ()
) -> Report:
    """Bring bundles and records into one report; the single latency samples stay in the records."""
    slim, known = tuple(_without_samples(bundle) for bundle in bundles), tuple(records)
    searched = tuple(searches)
    fronts = [_front_scatter(search) for search in searched]
    return Report(
        bundles=slim,
        searches=searched,
        scatters=(*(front for front in fronts if front), *_scatters(slim)),
        latency_records=tuple(
            record.model_copy(
                update={
                    "latency": _bare(record.latency),
                    "stages": {name: _bare(stage) for name, stage in record.stages.items()},
                }
            )
            for record in known
            if isinstance(record, LatencyRecord)
        ),
        accuracy_records=tuple(record for record in known if isinstance(record, AccuracyRecord)),
    )


def _read_record(path: Path) -> _Record | SearchRecord | None:
    """The record in `path`; None where the file does not start as JSON does."""
    adapter: TypeAdapter[_Record | SearchRecord] = TypeAdapter(
        Annotated[_Record | SearchRecord, Field(discriminator="kind")]
    )
    try:
        with path.open("rb") as handle:
            if handle.read(1) != b"{":
                return None
        return adapter.validate_json(path.read_bytes())
    except OSError as error:
        kind = MissingFileError if isinstance(error, FileNotFoundError) else UsageError
        raise kind(f"cannot read '{path}': {error.strerror or error}") from error
    except ValidationError as error:
        raise UsageError(
            f"'{path}' is neither a bundle nor a record of edgeact bench --out or edgeact evaluate --out: "
            f"{error.errors()[0]['msg']}"
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
    """One scatter for every machine and data set, then one of estimates for every target.

    Accuracy is the one over videos where they were counted, else over clips.
    """
    groups: dict[tuple[str | None, str, str], list[tuple[BundleView, Row, Accuracy]]] = {}
    machines: dict[str, Machine] = {}
    for bundle in bundles:
        if bundle.measurements is None:
            continue
        machine, target = bundle.measurements.machine, bundle.measurements.target
        machines.setdefault(machine.fingerprint, machine)
        for row in bundle.rows:
            if row.latency is None and row.latency_estimate_ms is None:
                continue
            for accuracy in _one_level(row.accuracy):
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


def _front_scatter(search: SearchView) -> Scatter | None:
    """All trials of a search that came to something; None where none did."""
    record = search.record
    points = [(trial, latency) for trial in record.trials if (latency := trial.latency_ms) is not None]
    if not points:
        return None
    return Scatter(
        machine=record.machine,
        estimated_for=record.target if record.is_estimate else None,
        data=f"{record.dataset} {record.split}, videos; trials of the search of {record.model}",
        points=tuple(point for trial, _ in points for point in _trial_point(search, trial)),
    )


def _trial_point(search: SearchView, trial: SearchTrial) -> tuple[Point, ...]:
    record, latency = search.record, trial.latency
    if trial.top1 is None or trial.top1_interval is None:
        return ()
    on_front: Verdict = "candidate" if trial.number in record.front else "rejected"
    return (
        Point(
            label=f"trial {trial.number}" if trial.number in record.front else str(trial.number),
            bundle=search.file,
            precision=trial.precision,
            verdict="chosen" if trial.number == record.chosen else on_front,
            p50_ms=latency.p50_ms if latency else None,
            p50_interval=latency.p50_interval if latency else None,
            latency_estimate_ms=None if latency else trial.latency_estimate_ms,
            top1=trial.top1,
            top1_interval=trial.top1_interval,
        ),
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
            p50_ms=row.latency.p50_ms if row.latency else None,
            p50_interval=row.latency.p50_interval if row.latency else None,
            latency_estimate_ms=None if row.latency else row.latency_estimate_ms,
            top1=accuracy.top1,
            top1_interval=accuracy.top1_interval,
        )
        for label, (bundle, row, accuracy) in zip(labels, members, strict=True)
    )


def _labels(parts: list[tuple[str, str, str]]) -> list[str]:
    """For each (artifact, backend, bundle) the shortest beginning, joined, that no other one shares."""
    labels = []
    for own in parts:
        lengths = (length for length in (1, 2) if sum(other[:length] == own[:length] for other in parts) == 1)
        labels.append(" · ".join(own[: next(lengths, 3)]))
    return labels
