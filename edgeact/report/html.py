"""Render a report as one HTML page with its style and charts, without scripts or external resources."""

from __future__ import annotations

from importlib import resources

from edgeact.extras import require
from edgeact.records import Sensitivity
from edgeact.report import formatting, search, sensitivity, summary, view
from edgeact.report.scatter_chart import ScatterChart, draw_scatter
from edgeact.report.sensitivity_chart import draw_sensitivity
from edgeact.report.view import Report, Scatter

__all__ = ["render_html"]

_SIZES_PX = {"wide": (760, 420), "narrow": (340, 440)}
"""Width and height of a chart by CSS class; the style sheet shows one of the two."""

_CONFUSION_CLASSES = 30  # the most frequent mistakes are more legible than a larger table


def render_html(report: Report) -> str:
    """Return the page, which needs neither a network nor JavaScript.

    Raises MissingExtraError if jinja2, or for a chart matplotlib or textalloc, is not installed.
    """
    jinja2 = require("jinja2", "report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgeact.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        formatting=formatting,
        search=search,
        sensitivity=sensitivity,
        summary=summary,
        view=view,
        draw_scatter=_draw_scatter,
        draw_sensitivity=_draw_sensitivity,
    )
    style = resources.files("edgeact.report").joinpath("style.css").read_text(encoding="utf-8")
    accuracy = [facts for record in report.accuracy_records for facts in formatting.accuracy_facts(record)]
    records = {
        "Latency records": [formatting.latency_facts(record) for record in report.latency_records],
        "Accuracy records": accuracy,
    }
    page: str = environment.get_template("page.html.j2").render(
        report=report, records=records, style=style, confusion_classes=_CONFUSION_CLASSES
    )
    return page


def _draw_scatter(scatter: Scatter, number: int) -> list[ScatterChart]:
    return [draw_scatter(scatter, f"scatter-{number}-{kind}", kind, size) for kind, size in _SIZES_PX.items()]


def _draw_sensitivity(layers: Sensitivity, number: str) -> list[str]:
    return [draw_sensitivity(layers, f"layers-{number}-{kind}", kind, width) for kind, (width, _) in _SIZES_PX.items()]
