"""Show records as HTML, Markdown and JSON, all from one view; a report formats numbers and computes none.

The package is callable: `edgeact.report(bundle)` is `edgeact.api.report`.
"""

from edgeact.callable_package import make_callable
from edgeact.report.html import render_html
from edgeact.report.inputs import build_report, read_inputs, view_bundle
from edgeact.report.markdown import render_markdown
from edgeact.report.view import BundleView, Report

__all__ = ["BundleView", "Report", "build_report", "read_inputs", "render_html", "render_markdown", "view_bundle"]

make_callable(__name__, "edgeact.api:report")
