"""A report as one HTML page: style and pictures inside, no script, nothing fetched from anywhere."""

from __future__ import annotations

from importlib import resources

from edgeact.extras import require
from edgeact.report import formatting as words
from edgeact.report import scatter, search, summary
from edgeact.report import sensitivity_chart as damage
from edgeact.report.view import Report

__all__ = ["render_html"]

_WIDE_PX = (760, 420)
_NARROW_PX = (340, 440)
_CONFUSION_CLASSES = 30  # a larger table is a picture of nothing: its most frequent mistakes are listed instead


def render_html(report: Report) -> str:
    """The page as text, a document of its own that works without a network and without JavaScript.

    Raises MissingExtraError where jinja2 is not installed.
    """
    jinja2 = require("jinja2", "report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgeact.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(damage=damage, words=words, summary=summary, search=search)
    style = resources.files("edgeact.report").joinpath("style.css").read_text(encoding="utf-8")
    layouts = [[scatter.lay_out(each.points, *size) for size in (_WIDE_PX, _NARROW_PX)] for each in report.scatters]
    records = {
        "Latency records": [words.latency_facts(record) for record in report.latency_records],
        "Accuracy records": [facts for record in report.accuracy_records for facts in words.accuracy_facts(record)],
    }
    page: str = environment.get_template("page.html.j2").render(
        report=report, layouts=layouts, records=records, style=style, confusion_classes=_CONFUSION_CLASSES
    )
    return page
