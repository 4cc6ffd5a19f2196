"""Read positions and texts from the SVG elements of the report's charts."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

FONT_PX = 12.0
ASCENT_PX, DESCENT_PX = 11.0, 4.0


@dataclass(frozen=True)
class Box:
    """A rectangle, pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether the rectangles share an area."""
        is_beside = self.right <= other.left or other.right <= self.left
        return not is_beside and self.top < other.bottom and other.top < self.bottom


@dataclass(frozen=True)
class Label:
    """A text of a chart and its extent in DejaVu Sans, which is wider than the system fonts of most platforms."""

    text: str
    box: Box
    anchor: str


def parse_chart(svg: str) -> ElementTree.Element:
    """Return the root of an `<svg>` element."""
    return ElementTree.fromstring(svg)


def read_labels(root: ElementTree.Element, css_class: str | None = None) -> list[Label]:
    """Return all texts of a chart, or those inside groups of `css_class`."""
    scope = root.iter("text") if css_class is None else root.iterfind(f".//g[@class='{css_class}']/text")
    return [_label(element) for element in scope]


def read_marks(root: ElementTree.Element) -> list[tuple[float, float]]:
    """Return the centers of the points' marks, in drawing order."""
    return [_center(group) for group in root.iterfind(".//g[@class='point']")]


def read_lines(root: ElementTree.Element, css_class: str) -> list[list[tuple[float, float]]]:
    """Return the vertices of every path inside groups of `css_class`."""
    return [read_path(path) for path in root.iterfind(f".//g[@class='{css_class}']/path")]


def read_path(path: ElementTree.Element) -> list[tuple[float, float]]:
    """Return the vertices of a path of straight lines."""
    numbers = [float(part) for part in path.get("d", "").split() if not part.isalpha()]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _center(group: ElementTree.Element) -> tuple[float, float]:
    """Return the place of a symbol that is used, or the center of a path."""
    symbol, path = group.find("use"), group.find("path")
    if symbol is not None:
        return float(symbol.get("x", "nan")), float(symbol.get("y", "nan"))
    assert path is not None
    xs, ys = zip(*read_path(path), strict=True)
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def _label(element: ElementTree.Element) -> Label:
    x, y, text, style = (
        float(element.get("x", "nan")),
        float(element.get("y", "nan")),
        element.text or "",
        _style(element),
    )
    font = FontProperties(family="DejaVu Sans", weight=style.get("font-weight", "normal"))
    width = TextPath((0, 0), text, size=FONT_PX, prop=font).get_extents().width
    anchor = style.get("text-anchor", "start")
    left = x - width * {"end": 1.0, "middle": 0.5, "start": 0.0}[anchor]
    return Label(text, Box(left, y - ASCENT_PX, left + width, y + DESCENT_PX), anchor)


def _style(element: ElementTree.Element) -> dict[str, str]:
    declarations = (part.partition(":") for part in element.get("style", "").split(";"))
    return {name: value for name, _, value in declarations}
