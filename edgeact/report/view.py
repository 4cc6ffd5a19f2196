"""The content of a report: bundles and records in one shape, which HTML, Markdown and JSON all show."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import Field

from edgeact.bundle.manifest import Manifest
from edgeact.phrases import phrase
from edgeact.precision import Precision
from edgeact.records import (
    Accuracy,
    AccuracyRecord,
    ClassAccuracy,
    Interval,
    LatencyRecord,
    Machine,
    Measurements,
    Row,
    SearchRecord,
    Verdict,
)
from edgeact.report.formatting import accuracy_key
from edgeact.schema import StrictModel

__all__ = ["BundleView", "Mistake", "Point", "Report", "Scatter", "SearchView", "frequent_mistakes", "row_shares"]


class Point(StrictModel):
    """A candidate in a scatter; its latency is measured, with an interval, or an estimate, without an interval."""

    label: str
    bundle: str
    precision: Precision
    verdict: Verdict
    p50_ms: float | None = Field(description="None: not measured")
    p50_interval: Interval | None
    latency_estimate_ms: float | None = Field(description="roofline estimate, only if the latency was not measured")
    top1: float
    top1_interval: Interval

    @property
    def is_estimate(self) -> bool:
        """Whether the latency was not measured."""
        return self.p50_ms is None

    @property
    def latency_ms(self) -> float:
        """The measured median, else the estimate."""
        return next(value for value in (self.p50_ms, self.latency_estimate_ms) if value is not None)


class Scatter(StrictModel):
    """Comparable candidates: accuracy on the same data, latency of the same machine or estimated for the same board."""

    machine: Machine = Field(description="that measured accuracy and, unless it is an estimate, latency")
    estimated_for: str | None = Field(description="target whose roofline all latencies are; None: all are measured")
    data: str = Field(description="data set, split and level of the accuracy")
    points: tuple[Point, ...]


class BundleView(StrictModel):
    """A bundle: its manifest and its measurements, without the latency samples."""

    name: str = Field(description="file name")
    digest: str
    size_bytes: int
    manifest: Manifest
    measurements: Measurements | None

    @property
    def rows(self) -> tuple[Row, ...]:
        """All measured candidates; none if the bundle has no measurements."""
        return self.measurements.rows if self.measurements else ()

    @property
    def chosen(self) -> Row | None:
        """The candidate that the export chose, if any."""
        return next((row for row in self.rows if row.verdict == "chosen"), None)

    @property
    def accuracy_keys(self) -> tuple[str, ...]:
        """Data set, split and level of each accuracy of the candidates, in order of appearance."""
        return tuple(dict.fromkeys(accuracy_key(accuracy) for row in self.rows for accuracy in row.accuracy))

    @property
    def has_drops(self) -> bool:
        """Whether the accuracy drop of a candidate against the unpruned model was measured."""
        return any(row.drop for row in self.rows)

    @property
    def decisions(self) -> tuple[str, ...]:
        """The decisions of the build in English."""
        if self.measurements and self.measurements.decisions:
            return tuple(map(phrase, self.measurements.decisions))
        return self.manifest.decisions

    @property
    def golden_prediction(self) -> str | None:
        """The class that PyTorch predicts for the golden clip."""
        golden = self.manifest.golden
        if golden is None:
            return None
        return self.manifest.labels[max(range(len(golden.logits)), key=golden.logits.__getitem__)]

    @property
    def estimated(self) -> tuple[Row, ...]:
        """The candidates whose latency is an estimate only."""
        return tuple(row for row in self.rows if row.latency is None and row.latency_estimate_ms is not None)

    @property
    def skipped(self) -> dict[str, int]:
        """Numbers of videos that the accuracies skip, by 'data: reason'."""
        return self._by_data(lambda accuracy: accuracy.skipped)

    @property
    def handled(self) -> dict[str, int]:
        """Numbers of irregular videos that the accuracies use, by 'data: irregularity'."""
        return self._by_data(lambda accuracy: accuracy.handled)

    def accuracy(self, row: Row, key: str) -> Accuracy | None:
        """Return the accuracy of `row` on the data of `key`, one of `accuracy_keys`."""
        return next((accuracy for accuracy in row.accuracy if accuracy_key(accuracy) == key), None)

    def with_classes(self, key: str) -> tuple[tuple[Row, Accuracy], ...]:
        """Return the candidates with an accuracy per class on the data of `key`, the chosen candidate first."""
        pairs = [(row, self.accuracy(row, key)) for row in self.rows]
        known = [(row, accuracy) for row, accuracy in pairs if accuracy and accuracy.per_class]
        return tuple(sorted(known, key=lambda pair: pair[0].verdict != "chosen"))

    def with_confusion(self, key: str) -> tuple[tuple[Row, Accuracy], ...]:
        """Return the candidates with a confusion matrix on the data of `key`, the chosen candidate first."""
        return tuple((row, accuracy) for row, accuracy in self.with_classes(key) if accuracy.confusion)

    def class_accuracy(self, accuracy: Accuracy, label: str) -> ClassAccuracy | None:
        """Return the part of `accuracy` of class `label`."""
        return next((part for part in accuracy.per_class if part.label == label), None)

    def _by_data(self, numbers: Callable[[Accuracy], Mapping[str, int]]) -> dict[str, int]:
        return {
            f"{accuracy.dataset} {accuracy.split}: {reason}": number
            for row in self.rows
            for accuracy in row.accuracy
            for reason, number in numbers(accuracy).items()
        }


class SearchView(StrictModel):
    """A search, and the file that its commands refer to."""

    file: str
    record: SearchRecord

    def command(self, number: int) -> str:
        """Return the command that exports trial `number`."""
        return f"edgeact export --trial {shlex.quote(f'{self.file}:{number}')}"


class Report(StrictModel):
    """The content of a report."""

    bundles: tuple[BundleView, ...]
    scatters: tuple[Scatter, ...]
    latency_records: tuple[LatencyRecord, ...] = ()
    accuracy_records: tuple[AccuracyRecord, ...] = ()
    searches: tuple[SearchView, ...] = ()

    @property
    def title(self) -> str:
        """The subjects of the report in one line."""
        names = [f"{bundle.manifest.model.name} for {bundle.manifest.target}" for bundle in self.bundles]
        records: tuple[LatencyRecord | AccuracyRecord, ...] = (*self.latency_records, *self.accuracy_records)
        names = names or [f"{record.model} / {record.artifact}" for record in records]
        names += [f"search of {search.record.model} for {search.record.target}" for search in self.searches]
        return ", ".join(dict.fromkeys(names))


@dataclass(frozen=True)
class Mistake:
    """A confusion of two classes: true and predicted label, number of samples, samples of the true class."""

    label: str
    predicted: str
    count: int
    total: int


def frequent_mistakes(
    labels: tuple[str, ...], confusion: tuple[tuple[int, ...], ...], limit: int = 25
) -> list[Mistake]:
    """Return the most frequent mistakes of a confusion matrix [true][predicted], at most `limit`."""
    mistakes = [
        Mistake(labels[true], labels[predicted], count, sum(row))
        for true, row in enumerate(confusion)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    return sorted(mistakes, key=lambda mistake: (-mistake.count, mistake.label, mistake.predicted))[:limit]


def row_shares(row: tuple[int, ...]) -> tuple[float, ...]:
    """Return the fractions of a row of a confusion matrix; all are 0 if the class has no samples."""
    total = sum(row) or 1
    return tuple(count / total for count in row)
