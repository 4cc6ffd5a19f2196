"""Rows of a picture: maps over frames with their colour scale, and bars, each named at its left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeact.export.explain.attention_weights import FloatArray, ModuleWeights
from edgeact.export.explain.canvas import INK, MUTED, Bars, Rect, blank, colour_scale, number, overlay, resized, write
from edgeact.export.explain.clip_view import Look
from edgeact.video import Image

__all__ = ["GAP", "LEFT", "RIGHT", "Maps", "Plot", "entries", "named", "with_bars", "with_maps"]

LEFT, RIGHT, GAP = 156, 70, 4
_BARS_HEIGHT = 100
_LABELS_HEIGHT = 14
_MOST_BARS = 256

Lines = Sequence[str]


@dataclass(frozen=True, eq=False)
class Maps:
    """A heat map a frame of the features, `(T', H', W')`, and what it is, the most important line first."""

    lines: tuple[str, ...]
    values: FloatArray
    bounds: tuple[float, float]
    """What its colours go from and to."""


@dataclass(frozen=True, eq=False)
class Plot:
    """FloatArray as bars, and what they are; `along_frames`: one for each frame of the features."""

    lines: tuple[str, ...]
    values: FloatArray
    labels: tuple[str, ...] = ()
    along_frames: bool = False


def entries(look: Look) -> Iterator[Maps | Plot]:
    """What there is to draw, in the order of the network; Grad-CAM last."""
    for module in look.shown:
        yield from _maps_of(module)
        yield from _plots_of(module)
    largest = float(look.cam.map.max()) or 1.0  # its scale means nothing
    yield Maps(("Grad-CAM", look.label), look.cam.map / largest, (0.0, 1.0))


def _maps_of(module: ModuleWeights) -> Iterator[Maps]:
    title = (f"Stage {module.stage}", module.kind)
    if module.maps is not None:
        yield Maps((*title, module.maps_unit), module.maps, _bounds(module.maps))
    if module.activation is not None:
        lines = (*title, "features it weighs", f"most: channel {module.strongest}")
        yield Maps(lines, module.activation, _bounds(module.activation))


def _plots_of(module: ModuleWeights) -> Iterator[Plot]:
    title = (f"Stage {module.stage}", module.kind)
    if module.frequencies:
        values = np.array([one.weight for one in module.frequencies], np.float32)
        labels = tuple(f"{one.row},{one.column}" for one in module.frequencies)
        yield Plot((*title, "by DCT row,column", _mean(values)), values, labels)
    elif module.channels is not None:
        values = -np.sort(-module.channels)
        yield Plot((*title, f"{len(values)} channels, sorted", _mean(values)), _thinned(values))
    if module.frames is not None:
        yield Plot((*title, "by frame", _mean(module.frames)), module.frames, along_frames=True)


def named(lines: Lines, height: int, width: int) -> Image:
    """An empty row with its name at the left: the first line dark, the others less."""
    row = blank(height, width)
    top = max((height - 16 * len(lines)) // 2, 0)
    for index, line in enumerate(lines):
        write(row, line, (0, top + 12 + 16 * index), 13 if index == 0 else 12, colour=MUTED if index else INK)
    return row


def with_maps(maps: Maps, look: Look, columns: Sequence[int], cell: tuple[int, int]) -> Image:
    """A row of frames under their maps, and the colour scale."""
    height, width = cell
    content = len(columns) * (width + GAP) - GAP
    row = named(maps.lines, height + GAP, LEFT + content + RIGHT)
    for position, frame in enumerate(columns):
        left = LEFT + position * (width + GAP)
        image = resized(look.frames[frame], height, width)
        row[:height, left : left + width] = overlay(image, look.of_frame(maps.values, frame), maps.bounds)
    colour_scale(row, Rect(LEFT + content + 10, 0, 10, height), maps.bounds)
    return row


def with_bars(plot: Plot, content: int, frame: tuple[int, int] | None = None) -> Image:
    """A row of bars; `frame`: the one that is played, of so many, stands out."""
    row = named(plot.lines, _BARS_HEIGHT + (_LABELS_HEIGHT if plot.labels else 0), LEFT + content + RIGHT)
    marked = frame[0] * len(plot.values) // frame[1] if frame and plot.along_frames else None
    Bars(plot.values, plot.labels, marked).draw(row, Rect(LEFT, 0, content, _BARS_HEIGHT))
    return row


def _bounds(values: FloatArray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _mean(values: FloatArray) -> str:
    """What the bars rise and fall from, and how far a full one goes."""
    mean = float(values.mean())
    return f"mean {number(mean)} ±{float(np.abs(values - mean).max()):.2g}"


def _thinned(values: FloatArray) -> FloatArray:
    """As many as can be told apart."""
    if len(values) <= _MOST_BARS:
        return values
    return values[np.arange(_MOST_BARS) * len(values) // _MOST_BARS]
