"""Draw accuracy against latency: points with error bars, and as many names as fit without covering anything."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeact.precision import Precision
from edgeact.records import Interval
from edgeact.report.formatting import percent
from edgeact.report.summary import point_latency, scatter_title
from edgeact.report.svg import COLORS, FONT_PX, NARROW_PX, Heading, new_figure, to_svg
from edgeact.report.view import Point, Scatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

__all__ = ["ScatterChart", "draw_scatter"]

_SHAPES: dict[Precision, str] = {"fp32": "o", "fp16": "s", "int8": "^"}
_DASHES = (0, (2.6, 1.8))
_LOG_RATIO = 8.0  # a latency range wider than this gets a logarithmic axis
_DECADES_RATIO = 100.0  # on a logarithmic axis wider than this, only powers of ten get a tick
_GAP_PX = 4.0  # between a name and what it must not cover
_FARTHEST = 0.4  # from a mark to its name, as a share of the axes
_CANDIDATES = 400  # places tried for each name


@dataclass(frozen=True)
class ScatterChart:
    """A scatter as an `<svg>` element, and the number of points without a name because no place is free."""

    svg: str
    css_class: str
    unnamed: int


@dataclass(frozen=True)
class _Mark:
    """Look of a mark: colors as matplotlib takes them, sizes in pixels."""

    shape: str
    edge: str
    face: str | tuple[str, float]
    width: float = 11.0
    line_width: float = 1.2
    is_dashed: bool = False

    def draw(self, axes: Axes, x: Sequence[float], y: Sequence[float]) -> PathCollection:
        """Draw the mark at each (x, y)."""
        return axes.scatter(
            x,
            y,
            s=self.width**2,
            marker=self.shape,
            facecolors=[self.face],
            edgecolors=self.edge,
            linewidths=self.line_width,
            linestyles=[_DASHES if self.is_dashed else "-"],
            zorder=3,
        )


_RING = _Mark("o", COLORS["ink"], "none", width=20.0, line_width=1.8)


def _mark(precision: Precision, *, is_estimate: bool = False, is_hollow: bool = False) -> _Mark:
    color = COLORS[precision]
    face = COLORS["paper"] if is_hollow else (color, 0.3) if is_estimate else color
    return _Mark(_SHAPES[precision], color, face, is_dashed=is_estimate)


def draw_scatter(scatter: Scatter, name: str, css_class: str, size_px: tuple[int, int]) -> ScatterChart:
    """Draw `scatter` in (width, height) pixels; the same points give the same text.

    `name` is unique on the page. Raises MissingExtraError if matplotlib or textalloc is not installed.
    """
    points = sorted(scatter.points, key=lambda point: point.verdict != "chosen")
    is_narrow = size_px[0] < NARROW_PX
    heading = Heading(
        name,
        css_class,
        scatter_title(scatter),
        " ".join(f"{point.label}: {point_latency(point)}, {percent(point.top1)} %." for point in scatter.points),
    )
    tooltips = {f"point-{index}": _tooltip(point) for index, point in enumerate(points)}
    with new_figure(*size_px) as figure:
        axes = figure.add_subplot()
        _scale_latency(axes, scatter, most_ticks=4 if is_narrow else 7)
        _scale_accuracy(axes, points)
        _draw_points(axes, points)
        _add_keys(axes, points)
        figure.legend(loc="outside lower left", ncols=2 if is_narrow else 6, labelcolor=COLORS["soft"])
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # or the places of the names would be found for other axes
        unnamed = len(points) - _draw_names(axes, points)
        return ScatterChart(to_svg(figure, heading, tooltips), css_class, unnamed)


def _tooltip(point: Point) -> str:
    return f"{point.label} ({point.precision}, {point.verdict}): {point_latency(point)}, {percent(point.top1)} %"


def _latency_span(point: Point) -> Interval:
    return point.p50_interval or Interval(low=point.latency_ms, high=point.latency_ms)


def _scale_latency(axes: Axes, scatter: Scatter, most_ticks: int) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    spans = [_latency_span(point) for point in scatter.points]
    low, high = min(span.low for span in spans), max(span.high for span in spans)
    is_log = low > 0 and high / low > _LOG_RATIO
    axes.set_xlabel(f"latency {'estimate' if scatter.estimated_for else 'p50'}, ms per clip{' (log scale)' * is_log}")
    if is_log:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.3, high * 1.3)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < _DECADES_RATIO else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0.0, 1.15 * high or 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(most_ticks, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.10g}"))


def _scale_accuracy(axes: Axes, points: Sequence[Point]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    low = min(point.top1_interval.low for point in points)
    high = max(point.top1_interval.high for point in points)
    slack = max(0.1 * (high - low), 0.005)
    axes.set_ylabel("top-1 accuracy, %")
    axes.set_ylim(max(0.0, low - slack), min(1.0, high + slack))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda fraction, _: f"{100 * fraction:.10g}"))


def _draw_points(axes: Axes, points: Sequence[Point]) -> None:
    """Draw the error bars, 95 %, and the marks above them; an estimated latency has no error bar."""
    for index, point in enumerate(points):
        x, y, span, top1 = point.latency_ms, point.top1, _latency_span(point), point.top1_interval
        bars = axes.errorbar(
            x,
            y,
            xerr=None if point.is_estimate else [[x - span.low], [span.high - x]],
            yerr=[[y - top1.low], [top1.high - y]],
            fmt="none",
            ecolor=COLORS[point.precision],
            elinewidth=1.2,
        )
        for bar in bars.lines[2]:
            bar.set_gid(f"bar-{index}")
        if point.verdict == "chosen":
            _RING.draw(axes, [x], [y]).set_gid(f"ring-{index}")
        is_hollow = point.verdict in ("rejected", "reference")
        mark = _mark(point.precision, is_estimate=point.is_estimate, is_hollow=is_hollow)
        mark.draw(axes, [x], [y]).set_gid(f"point-{index}")


def _add_keys(axes: Axes, points: Sequence[Point]) -> None:
    """Add a label for the legend for each kind of mark among `points`."""
    is_estimate = any(point.is_estimate for point in points)
    precisions = {point.precision for point in points}
    verdicts = {point.verdict for point in points}
    marks: dict[str, _Mark] = {
        precision: _mark(precision, is_estimate=is_estimate) for precision in _SHAPES if precision in precisions
    }
    if "chosen" in verdicts:
        marks["chosen"] = replace(_RING, width=12.0)
    if verdicts & {"rejected", "reference"}:
        marks["hollow: rejected, or the reference"] = _mark("fp32", is_hollow=True)
    if is_estimate:
        marks["dashed: estimate"] = replace(_RING, width=11.0, line_width=1.2, is_dashed=True)
    for label, mark in marks.items():
        mark.draw(axes, [], []).set_label(label)


def _draw_names(axes: Axes, points: Sequence[Point]) -> int:
    """Write the names of `points` beside their marks, the first point's first; return the number of names written.

    A name covers neither a mark nor another name; error bars are avoided too, unless that costs a name.
    """
    names, leaders = _allocate_names(axes, points, _error_bars(points))
    if len(names) < len(points):
        for artist in (*names, *leaders):
            artist.remove()
        names, leaders = _allocate_names(axes, points, [])
    for index, name in enumerate(names):
        name.set_gid(f"name-{index}")
    for index, leader in enumerate(leaders):
        leader.set_gid(f"leader-{index}")
    return len(names)


def _error_bars(points: Sequence[Point]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return both error bars of each point as ((x, x), (y, y)), in the axes' units."""
    bars = []
    for point in points:
        span, top1 = _latency_span(point), point.top1_interval
        bars.append(((span.low, span.high), (point.top1, point.top1)))
        bars.append(((point.latency_ms, point.latency_ms), (top1.low, top1.high)))
    return bars


def _allocate_names(
    axes: Axes, points: Sequence[Point], obstacles: Sequence[tuple[tuple[float, float], tuple[float, float]]]
) -> tuple[list[Text], list[Line2D]]:
    import textalloc

    x, y = [point.latency_ms for point in points], [point.top1 for point in points]
    is_chosen = [point.verdict == "chosen" for point in points]
    gap = _GAP_PX / axes.get_window_extent().width
    radii = [(_RING if chosen else _mark("fp32")).width / 2 for chosen in is_chosen]
    with contextlib.redirect_stdout(None):  # textalloc prints if no name finds a place
        _, _, texts, lines = textalloc.allocate(
            axes,
            x,
            y,
            [point.label for point in points],
            x_scatter=x,
            y_scatter=y,
            scatter_sizes=radii,
            text_scatter_sizes=radii,
            x_lines=[list(x) for x, _ in obstacles] or None,
            y_lines=[list(y) for _, y in obstacles] or None,
            textsize=FONT_PX,
            fontweight=["bold" if chosen else "normal" for chosen in is_chosen],
            textcolor=COLORS["ink"],
            linecolor=COLORS["soft"],
            plot_kwargs={"linestyle": (0, (2, 2)), "linewidth": 1.0},
            draw_all=False,
            margin=gap,
            min_distance=1.5 * gap,
            max_distance=_FARTHEST,
            nbr_candidates=_CANDIDATES,
        )
    return [text for text in texts if text], [line for line in lines if line]
