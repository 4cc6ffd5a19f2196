"""Records as a page: HTML, Markdown and JSON of one view; a report shows numbers and never computes them.

The package is callable: `edgeact.report(bundle)` is `edgeact.api.report`.
"""

from edgeact.callable_package import make_callable
from edgeact.report.html import render_html
from edgeact.report.markdown import render_markdown
from edgeact.report.view import BundleView, Report, build_report, read_inputs, view_bundle

__all__ = ["BundleView", "Report", "build_report", "read_inputs", "render_html", "render_markdown", "view_bundle"]

make_callable(__name__, "edgeact.api:report")
