"""Draw matplotlib figures as SVG elements of the page: text stays text, colors follow the page, nothing is fetched.

matplotlib, because its SVG needs neither a script nor a browser. Vega-Lite places no labels, and its renderer is larger
than all other requirements of a report; plotly needs its script inside every page, many times the size of the rest.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from edgeact.extras import need

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLORS", "FONT_PX", "NARROW_PX", "Heading", "matplotlib_defaults", "new_figure", "to_svg"]

COLORS = {
    "ink": "#1b1f24",
    "soft": "#57606a",
    "line": "#d8dee4",
    "paper": "#ffffff",
    "fp32": "#0a6cb8",
    "fp16": "#c4420b",
    "int8": "#07805c",
}
"""The page's custom properties and their values in its light scheme."""

FONT_PX = 12.0
"""Font size. DejaVu Sans, by which matplotlib measures, is wider than the system fonts that the page asks for."""

NARROW_PX = 500
"""A narrower chart is laid out for a phone."""

_PIXELS_PER_INCH = 72.0  # matplotlib's SVG counts in points: at this resolution a point is a pixel
_CLASS_AND_INDEX = re.compile(r"([a-z]+)-\d+")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_UNROTATED = re.compile(r"rotate\(-?0 .*\)")
_REDUNDANT = (  # defaults, and what style.css says for all charts
    *("font-size:", "font-family:", "text-anchor:start", "fill:var(--ink)"),
    *("stroke-dashoffset:0", "stroke-linejoin:", "stroke-linecap:", "stroke-width:1.2"),
)
_COLOR = re.compile(r"#[0-9a-f]{6}")
_VARIABLES = {color: f"var(--{name})" for name, color in COLORS.items()}


@dataclass(frozen=True)
class Heading:
    """Name of a chart for the page and for screen readers.

    `name` is unique on the page: it is the prefix of every identifier that the chart needs.
    """

    name: str
    css_class: str
    title: str
    description: str = ""


@contextlib.contextmanager
def matplotlib_defaults(extra: str) -> Iterator[None]:
    """Import matplotlib and set its defaults until exit, whatever the user's matplotlibrc says.

    Raises MissingExtraError naming the edgeact extra `extra` if matplotlib is not installed.
    """
    need(extra, "matplotlib")
    with _font_cache():
        import matplotlib
        import matplotlib.figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


@contextlib.contextmanager
def new_figure(width_px: int, height_px: float) -> Iterator[Figure]:
    """Open an empty figure in the page's style, whatever the user's matplotlibrc says.

    Raises MissingExtraError if matplotlib or textalloc is not installed.
    """
    need("report", "matplotlib", "textalloc")
    with matplotlib_defaults("report"):
        from matplotlib.figure import Figure

        _set_style()
        size = (width_px / _PIXELS_PER_INCH, height_px / _PIXELS_PER_INCH)
        yield Figure(figsize=size, dpi=_PIXELS_PER_INCH, layout="constrained")


def to_svg(figure: Figure, heading: Heading, tooltips: Mapping[str, str]) -> str:
    """Return `figure` as an `<svg>` element for HTML; call inside the `with` block of `new_figure`.

    An artist with the gid `CLASS-INDEX` becomes `<g class="CLASS">`; `tooltips` are by gid.
    """
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = heading.name  # or two charts would share identifiers
    for artist in figure.findobj():
        artist.set_clip_on(False)  # everything lies inside the axes; clip paths would be a third of the text
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(buffer.getvalue())
    for unwanted in root.findall("{*}metadata") + root.findall("{*}defs"):  # a style for all of the page, for example
        root.remove(unwanted)
    _simplify(root, tooltips)
    _make_accessible(root, heading)
    return ElementTree.tostring(root, encoding="unicode")


def _set_style() -> None:
    import matplotlib

    matplotlib.rcParams.update(
        {
            "axes.axisbelow": True,
            "axes.facecolor": "none",
            "axes.grid": True,
            "axes.labelcolor": COLORS["soft"],
            "axes.spines.bottom": False,
            "axes.spines.left": False,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.facecolor": "none",
            "font.size": FONT_PX,
            "grid.color": COLORS["line"],
            "grid.linewidth": 1.0,
            "legend.frameon": False,
            "legend.handletextpad": 0.3,
            "svg.fonttype": "none",
            "text.color": COLORS["ink"],
            "text.parse_math": False,
            "xtick.labelcolor": COLORS["soft"],
            "xtick.major.size": 0.0,
            "ytick.labelcolor": COLORS["soft"],
            "ytick.major.size": 0.0,
        }
    )


@contextlib.contextmanager
def _font_cache() -> Iterator[None]:
    """Let matplotlib write its font cache to a temporary folder if the home folder is not writable."""
    home = Path(os.path.expanduser("~"))
    if "MPLCONFIGDIR" in os.environ or (home.is_dir() and os.access(home, os.W_OK)):
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            yield
        finally:
            del os.environ["MPLCONFIGDIR"]


def _simplify(element: ElementTree.Element, tooltips: Mapping[str, str]) -> None:
    """Drop what an SVG inside HTML does not need from `element` and its children, and shorten the rest."""
    element.tag = element.tag.rpartition("}")[2]
    attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    gid = attributes.pop("id", "") if element.tag == "g" else ""
    element.attrib = {name: short for name, value in attributes.items() if (short := _shorten(name, value))}
    element.text, element.tail = element.text if element.tag == "text" else None, None
    for child in element:
        _simplify(child, tooltips)
    element[:] = [kept for child in element for kept in (child if child.tag == "g" and not child.attrib else [child])]
    if known := _CLASS_AND_INDEX.fullmatch(gid):
        element.set("class", known[1])
    if gid in tooltips:
        tooltip = ElementTree.Element("title")
        tooltip.text = tooltips[gid]
        element.insert(0, tooltip)


def _shorten(name: str, value: str) -> str:
    """Return the value of an attribute with short numbers and the page's colors; empty if it says nothing."""
    text = _LONG_NUMBER.sub(_rounded, " ".join(value.split()))
    if name == "style":
        text = _COLOR.sub(lambda color: _VARIABLES.get(color[0], color[0]), text).replace(": ", ":")
        return ";".join(kept for kept in text.split("; ") if not kept.startswith(_REDUNDANT))
    return "" if _UNROTATED.fullmatch(text) else text


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")


def _make_accessible(root: ElementTree.Element, heading: Heading) -> None:
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    names = {"title": heading.title, "desc": heading.description}
    for place, (tag, text) in enumerate((tag, text) for tag, text in names.items() if text):
        child = ElementTree.Element(tag, {"id": f"{heading.name}-{tag}"})
        child.text = text
        root.insert(place, child)
    labels = " ".join(f"{heading.name}-{tag}" for tag, text in names.items() if text)
    root.attrib.update({"class": heading.css_class, "role": "img", "aria-labelledby": labels})
