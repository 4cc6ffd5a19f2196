"""Read bundles and records, and build a report of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from edgeact.bundle import open_bundle
from edgeact.errors import MissingFileError, UsageError
from edgeact.records import AccuracyRecord, Latency, LatencyRecord, SearchRecord
from edgeact.report.scatters import bundle_scatters, search_scatter
from edgeact.report.view import BundleView, Report, SearchView

__all__ = ["build_report", "read_inputs", "view_bundle"]

_Record = LatencyRecord | AccuracyRecord


def read_inputs(paths: Iterable[str | Path]) -> Report:
    """Build the report of bundles and of JSON records of `bench --out`, `evaluate --out` and `search`.

    Raises UsageError for a file that is neither, and what `open_bundle` raises for a bad bundle.
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
    """Open and verify the bundle at `path`; raises a BundleError if the bundle is damaged or not supported."""
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
    """Build a report of bundles, records and searches; latency samples are omitted."""
    views, records, searches = tuple(map(_without_samples, bundles)), tuple(records), tuple(searches)
    fronts = [scatter for search in searches if (scatter := search_scatter(search))]
    return Report(
        bundles=views,
        searches=searches,
        scatters=(*fronts, *bundle_scatters(views)),
        latency_records=tuple(_omit_samples(record) for record in records if isinstance(record, LatencyRecord)),
        accuracy_records=tuple(record for record in records if isinstance(record, AccuracyRecord)),
    )


def _read_record(path: Path) -> _Record | SearchRecord | None:
    """Read the record at `path`; None if the file does not start as JSON does."""
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
            f"'{path}' is neither a bundle nor a record of edgeact bench --out, evaluate --out or search: "
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


def _omit_samples(record: LatencyRecord) -> LatencyRecord:
    stages = {name: _bare(stage) for name, stage in record.stages.items()}
    return record.model_copy(update={"latency": _bare(record.latency), "stages": stages})


def _bare(latency: Latency) -> Latency:
    return latency.model_copy(update={"samples_ms": ()})
