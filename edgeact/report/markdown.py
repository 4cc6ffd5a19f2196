"""Render a report as Markdown, for a pull request or a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from edgeact.report import formatting, search, summary
from edgeact.report.sensitivity import LAYER_HEADS, layer_cells, summarize_sensitivity, worst_first
from edgeact.report.view import BundleView, Report, frequent_mistakes

__all__ = ["render_markdown"]


def render_markdown(report: Report) -> str:
    """Return the report as GitHub-flavored Markdown."""
    parts = [f"# edgeact report: {_cell(report.title)}"]
    for view in report.searches:
        parts += [f"## {_cell(search.search_title(view.record))}", _list(search.summarize_search(view.record))]
        parts += _section("### Pareto front", search.front_rows(view))
        parts += _section("### All trials", search.trial_rows(view.record))
    for bundle in report.bundles:
        parts += _bundle(bundle)
    accuracy = [facts for record in report.accuracy_records for facts in formatting.accuracy_facts(record)]
    parts += _section("## Latency records", [formatting.latency_facts(record) for record in report.latency_records])
    parts += _section("## Accuracy records", accuracy)
    return "\n\n".join(parts) + "\n"


def _section(heading: str, rows: Sequence[Mapping[str, str]]) -> list[str]:
    return [heading, _table(list(rows[0]), ([*row.values()] for row in rows))] if rows else []


def _bundle(bundle: BundleView) -> list[str]:
    manifest = bundle.manifest
    parts = [
        f"## {_cell(manifest.model.name)} for {_cell(manifest.target)}",
        f"`{bundle.name}`, {formatting.bytes_text(bundle.size_bytes)}, digest `{bundle.digest[:16]}`",
        _list(summary.summarize_bundle(bundle)),
    ]
    if bundle.rows:
        parts += ["### Candidates", _candidates(bundle)]
    for key in bundle.accuracy_keys:
        parts += _classes(bundle, key)
    for layers in bundle.measurements.sensitivity if bundle.measurements else ():
        cells = (layer_cells(layer) for layer in worst_first(layers))
        heading = f"### INT8 sensitivity by layer: {_cell(layers.artifact)}"
        parts += [heading, _list(summarize_sensitivity(layers)), _table(LAYER_HEADS, cells)]
    parts += ["### Measured values and estimates", _list(summary.measured_where(bundle))]
    if bundle.measurements:
        parts.append(_facts(formatting.machine_facts(bundle.measurements.machine)))
    parts += ["### Provenance", _facts(summary.provenance(bundle))]
    if bundle.decisions:
        parts += ["### Decisions", _list(bundle.decisions)]
    for artifact in manifest.artifacts:
        if artifact.float_layers:
            parts += [f"### {artifact.name}: layers kept in float", _facts(artifact.float_layers)]
    return parts


def _candidates(bundle: BundleView) -> str:
    heads = ["artifact", "runs on", "precision", "size", "parity with PyTorch"]
    heads += [f"top-1, {key}" for key in bundle.accuracy_keys]
    heads += [formatting.DROP_HEAD] if bundle.has_drops else []
    heads += ["latency p50", "p90", "verdict", "reason"]
    rows = (
        [
            row.artifact,
            f"{row.backend} on {row.device}",
            row.precision,
            formatting.bytes_text(row.size_bytes),
            str(formatting.parity_text(row.parity)),
            *(str(formatting.top1_text(bundle.accuracy(row, key))) for key in bundle.accuracy_keys),
            *([formatting.drop_text(row.drop)] if bundle.has_drops else []),
            str(formatting.latency_text(row)),
            formatting.tail_text(row.latency.p90_ms if row.latency else None),
            row.verdict,
            formatting.reason_text(row),
        ]
        for row in bundle.rows
    )
    return _table(heads, rows)


def _classes(bundle: BundleView, key: str) -> list[str]:
    candidates = bundle.with_classes(key)
    if not candidates:
        return []
    heads = ["class", "n", *(f"{row.artifact} ({row.backend})" for row, _ in candidates)]
    rows = []
    for first in candidates[0][1].per_class:
        parts_of_class = [bundle.class_accuracy(accuracy, first.label) for _, accuracy in candidates]
        rows.append([first.label, str(first.count), *map(formatting.class_text, parts_of_class)])
    parts = [f"### Per class: {key}", _table(heads, rows)]
    for row, accuracy in bundle.with_confusion(key)[:1]:
        mistakes = frequent_mistakes(bundle.manifest.labels, accuracy.confusion)
        cells = ([mistake.label, mistake.predicted, f"{mistake.count} of {mistake.total}"] for mistake in mistakes)
        parts += [
            f"### Most frequent mistakes of {row.artifact}: {key}",
            _table(["true class", "predicted class", "count"], cells),
        ]
    return parts


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _facts(facts: Mapping[str, str]) -> str:
    return _list([f"**{_cell(name)}**: {_cell(fact)}" for name, fact in facts.items()], is_markup=True)


def _list(items: Iterable[str], *, is_markup: bool = False) -> str:
    return "\n".join(f"- {item if is_markup else _cell(item)}" for item in items)


def _cell(text: str) -> str:
    """Escape text, so that it neither leaves its table cell nor becomes markup."""
    for character in "\\`*_|<[":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
