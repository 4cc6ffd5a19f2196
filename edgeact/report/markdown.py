"""A report as Markdown: the same view as the page, for a pull request or a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeact.report import formatting, search, summary
from edgeact.report.sensitivity import LAYER_HEADS, layer_cells, summarize_sensitivity, worst_first
from edgeact.report.view import BundleView, Report

__all__ = ["render_markdown"]


def render_markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown, one document."""
    parts = [f"# edgeact report: {_cell(report.title)}"]
    for found in report.searches:
        parts += [f"## {_cell(search.search_title(found.record))}", _list(search.summarize_search(found.record))]
        parts += _rows("### Front", search.front_rows(found))
        parts += _rows("### All trials", search.trial_rows(found.record))
    for bundle in report.bundles:
        parts += _bundle(bundle)
    parts += _rows("## Latency records", [formatting.latency_facts(record) for record in report.latency_records])
    of_levels = [facts for record in report.accuracy_records for facts in formatting.accuracy_facts(record)]
    parts += _rows("## Accuracy records", of_levels)
    return "\n\n".join(parts) + "\n"


def _rows(heading: str, rows: list[dict[str, str]]) -> list[str]:
    return [heading, _table(list(rows[0]), ([*row.values()] for row in rows))] if rows else []


def _bundle(bundle: BundleView) -> list[str]:
    manifest = bundle.manifest
    parts = [
        f"## {_cell(manifest.model.name)} for {_cell(manifest.target)}",
        f"`{bundle.name}`, {formatting.bytes_text(bundle.size_bytes)}, digest `{bundle.digest[:16]}`",
        _list(summary.summarize_bundle(bundle)),
    ]
    if bundle.rows:
        parts += ["### Variants", _variants(bundle)]
    for key in bundle.accuracy_keys:
        parts += _classes(bundle, key)
    for layers in bundle.measurements.sensitivity if bundle.measurements else ():
        rows = (layer_cells(layer) for layer in worst_first(layers))
        heading = f"### INT8 sensitivity by layer: {_cell(layers.artifact)}"
        parts += [heading, _list(summarize_sensitivity(layers)), _table(LAYER_HEADS, rows)]
    parts += ["### What was measured where, and what is an estimate", _list(summary.measured_where(bundle))]
    if bundle.measurements:
        parts.append(_facts(formatting.machine_facts(bundle.measurements.machine)))
    parts += ["### How it was made", _facts(summary.provenance(bundle))]
    if manifest.decisions:
        parts += ["### Decisions", _list(manifest.decisions)]
    for artifact in manifest.artifacts:
        if artifact.float_layers:
            parts += [f"### {artifact.name}: layers that stay in float", _facts(artifact.float_layers)]
    return parts


def _variants(bundle: BundleView) -> str:
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
            row.reason,
        ]
        for row in bundle.rows
    )
    return _table(heads, rows)


def _classes(bundle: BundleView, key: str) -> list[str]:
    classed = bundle.classed(key)
    if not classed:
        return []
    heads = ["class", "n", *(f"{row.artifact} ({row.backend})" for row, _ in classed)]
    rows = []
    for first in classed[0][1].per_class:
        counts = [bundle.class_accuracy(accuracy, first.label) for _, accuracy in classed]
        rows.append([first.label, str(first.count), *(formatting.class_text(count) for count in counts)])
    parts = [f"### Per class: {key}", _table(heads, rows)]
    for row, accuracy in bundle.confused(key)[:1]:
        found = formatting.mistakes(bundle.manifest.labels, accuracy.confusion)
        cells = ([true, predicted, f"{count} of {total}"] for true, predicted, count, total in found)
        parts += [
            f"### Most frequent mistakes of {row.artifact}: {key}",
            _table(["true class", "taken for", "how often"], cells),
        ]
    return parts


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _facts(facts: dict[str, str]) -> str:
    return _list([f"**{_cell(name)}**: {_cell(fact)}" for name, fact in facts.items()], is_raw=True)


def _list(items: Iterable[str], *, is_raw: bool = False) -> str:
    return "\n".join(f"- {item if is_raw else _cell(item)}" for item in items)


def _cell(text: str) -> str:
    """Text that cannot leave its table cell or become markup."""
    for character in "\\`*_|<[":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
