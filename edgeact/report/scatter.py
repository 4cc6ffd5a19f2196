"""Where everything of the accuracy-against-latency scatter goes: axes, points, and labels that do not overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeact.records import Interval
from edgeact.report.view import Point

__all__ = ["Label", "Layout", "Mark", "Tick", "lay_out"]

_CHARACTER_PX = 6.9  # of the 12 px label font, wide enough for the system fonts of all platforms
_LINE_PX = 15.0
_MARK_PX = 8.0
_ROUNDS = 8  # of placing all labels
_LOG_FROM = 8.0  # a latency range wider than this gets a logarithmic axis


@dataclass(frozen=True)
class Box:
    """A rectangle, pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Shared area, square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    def distance(self, x: float, y: float) -> float:
        """From a place to the nearest point of the box."""
        return math.hypot(max(self.left - x, 0.0, x - self.right), max(self.top - y, 0.0, y - self.bottom))


@dataclass(frozen=True)
class Tick:
    """One tick: place along its axis, pixels, and text."""

    at: float
    text: str


@dataclass(frozen=True)
class Label:
    """A point's name: left end of its base line, its box, and whether a line must lead to the point."""

    x: float
    y: float
    box: Box
    has_leader: bool

    def anchor_x(self, x: float) -> float:
        """Where a leader line from a point at `x` meets the label."""
        return min(max(x, self.box.left), self.box.right)


@dataclass(frozen=True)
class Bars:
    """A point's place and the ends of its two error bars; an estimated latency has none, both ends are the point."""

    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    @property
    def boxes(self) -> tuple[Box, Box, Box]:
        """What a label should not cover: the mark, then its two bars."""
        return (
            Box(self.x - _MARK_PX, self.y - _MARK_PX, self.x + _MARK_PX, self.y + _MARK_PX),
            Box(self.x_low, self.y - 1, self.x_high, self.y + 1),
            Box(self.x - 1, self.y_high, self.x + 1, self.y_low),
        )


@dataclass(frozen=True)
class Mark:
    """One point, where it is drawn, and its label."""

    point: Point
    bars: Bars
    label: Label


@dataclass(frozen=True)
class Layout:
    """A scatter laid out for one size, pixels; `plot` is the area inside the axes."""

    width: int
    height: int
    plot: Box
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    is_log: bool


@dataclass(frozen=True)
class _Axis:
    """A value range mapped onto a pixel range."""

    low: float
    high: float
    start_px: float
    end_px: float
    is_log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return round(self.start_px + share * (self.end_px - self.start_px), 1)


def lay_out(points: Sequence[Point], width: int, height: int) -> Layout:
    """Lay out one or more points in `width` x `height` pixels; the same points give the same layout."""
    plot = Box(52.0, 12.0, width - 14.0, height - 44.0)
    x_axis, y_axis = _latency_axis(points, plot), _accuracy_axis(points, plot)
    bars = [_bars(point, x_axis, y_axis) for point in points]
    labels = _place_labels(bars, [point.label for point in points], plot)
    return Layout(
        width=width,
        height=height,
        plot=plot,
        x_ticks=_ticks(x_axis, 4 if width < 500 else 7),
        y_ticks=_ticks(y_axis, 6, scale=100.0),
        marks=tuple(Mark(point, bar, label) for point, bar, label in zip(points, bars, labels, strict=True)),
        is_log=x_axis.is_log,
    )


def _bars(point: Point, x_axis: _Axis, y_axis: _Axis) -> Bars:
    x_span = _latency_span(point)
    return Bars(
        x=x_axis.at(point.latency_ms),
        y=y_axis.at(point.top1),
        x_low=x_axis.at(x_span.low),
        x_high=x_axis.at(x_span.high),
        y_low=y_axis.at(point.top1_interval.low),
        y_high=y_axis.at(point.top1_interval.high),
    )


def _latency_span(point: Point) -> Interval:
    return point.p50_interval or Interval(low=point.latency_ms, high=point.latency_ms)


def _latency_axis(points: Sequence[Point], plot: Box) -> _Axis:
    spans = [_latency_span(point) for point in points]
    low, high = min(span.low for span in spans), max(span.high for span in spans)
    if low > 0 and high / low > _LOG_FROM:
        return _Axis(low / 1.3, high * 1.3, plot.left, plot.right, is_log=True)
    return _Axis(0.0, 1.15 * high or 1.0, plot.left, plot.right)


def _accuracy_axis(points: Sequence[Point], plot: Box) -> _Axis:
    low = min(point.top1_interval.low for point in points)
    high = max(point.top1_interval.high for point in points)
    margin = max(0.1 * (high - low), 0.005)
    return _Axis(max(0.0, low - margin), min(1.0, high + margin), plot.bottom, plot.top)


def _ticks(axis: _Axis, wanted: int, scale: float = 1.0) -> tuple[Tick, ...]:
    """Ticks at round values of 1, 2 and 5 times a power of ten, about `wanted` of them; texts show `scale` * value."""
    low, high = axis.low * scale, axis.high * scale
    values = _log_values(low, high, wanted) if axis.is_log else _linear_values(low, high, wanted)
    return tuple(Tick(axis.at(value / scale), f"{value:.10g}") for value in values)


def _linear_values(low: float, high: float, wanted: int) -> list[float]:
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def _log_values(low: float, high: float, wanted: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        values = [factor * 10.0**power for power in powers for factor in factors]
        inside = [round(value, 10) for value in values if low <= value <= high]
        if len(inside) <= wanted:
            break
    return inside


def _place_labels(bars: Sequence[Bars], texts: Sequence[str], plot: Box) -> list[Label]:
    """Give each label, from the top point down, the place that is near and covers little of what is there already.

    What was placed first knew nothing of what came after: all choose again until none moves.
    """
    marks = [bar.boxes[0] for bar in bars]
    labels: dict[int, Label] = {}
    for _ in range(_ROUNDS):
        before = dict(labels)
        for index in sorted(range(len(bars)), key=lambda index: (bars[index].y, bars[index].x)):
            solid = [*marks, *(label.box for other, label in labels.items() if other != index)]
            options = _candidates(bars[index], texts[index])
            labels[index] = min(options, key=lambda option: _cost(option, index, bars, solid, plot))
        if labels == before:
            break
    return [labels[index] for index in range(len(bars))]


def _candidates(bar: Bars, text: str) -> list[Label]:
    width = _CHARACTER_PX * len(text)
    options = []
    for distance in (14.0, 20.0, 30.0, 44.0, 60.0, 80.0, 104.0, 130.0, 160.0):
        for right, down in ((1, 0), (-1, 0), (1, -1), (1, 1), (-1, -1), (-1, 1), (0, -1), (0, 1)):
            x = bar.x + right * (8.0 if down else distance) - width * (1 - right) / 2
            y = bar.y + down * distance
            box = Box(x, y - _LINE_PX / 2, x + width, y + _LINE_PX / 2)
            options.append(Label(round(x, 1), round(y + 4, 1), box, has_leader=distance > 20))
    return options


def _cost(label: Label, index: int, bars: Sequence[Bars], solid: Sequence[Box], plot: Box) -> float:
    """Square pixels covered, weighed: much for marks, labels and the outside, little for error bars and distance.

    A place that is nearer to another point than to its own costs as much as a long way; touching a mark or a label is
    worse than any way.
    """
    box, own = label.box, bars[index]
    outside = (box.right - box.left) * (box.bottom - box.top) - box.overlap(plot)
    covered = sum(box.overlap(other) for other in solid)
    crossed = sum(box.overlap(other) for bar in bars for other in bar.boxes[1:])
    distance = box.distance(own.x, own.y)
    is_ambiguous = any(box.distance(bar.x, bar.y) < distance for bar in bars)
    return 10 * covered + 10 * outside + crossed + 0.5 * distance + 40 * is_ambiguous + 150 * (covered > 0)
