"""What a picture shows below the input: maps over frames and bars, with captions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeact.export.explain.attention_weights import FloatArray, ModuleWeights
from edgeact.export.explain.clip_view import ClipView
from edgeact.export.explain.drawing import Bounds, number

__all__ = ["BarPanel", "MapPanel", "panels_of"]

_MOST_BARS = 256


@dataclass(frozen=True, eq=False)
class MapPanel:
    """A heat map per frame of an activation."""

    lines: tuple[str, ...]
    """The caption, the most important line first."""
    values: FloatArray
    """`(T', H', W')`."""
    bounds: Bounds


@dataclass(frozen=True, eq=False)
class BarPanel:
    """Weights as bars."""

    lines: tuple[str, ...]
    """The caption, the most important line first."""
    values: FloatArray
    labels: tuple[str, ...] = ()
    """One below each bar."""
    along_frames: bool = False
    """Each bar covers a frame of the activation."""


def panels_of(view: ClipView) -> Iterator[MapPanel | BarPanel]:
    """Yield the panels in the order of the network, Grad-CAM last."""
    for module in view.drawn_modules:
        yield from _maps_of(module)
        yield from _bars_of(module)
    largest = float(view.cam.map.max()) or 1.0  # only ratios have a meaning
    yield MapPanel(("Grad-CAM", view.explained.label), view.cam.map / largest, (0.0, 1.0))


def _maps_of(module: ModuleWeights) -> Iterator[MapPanel]:
    title = (f"Stage {module.stage}", module.kind)
    if module.maps is not None:
        yield MapPanel((*title, module.maps_unit), module.maps, _bounds(module.maps))
    if module.activation is not None:
        lines = (*title, "activation with largest", f"weight: channel {module.strongest}")
        yield MapPanel(lines, module.activation, _bounds(module.activation))


def _bars_of(module: ModuleWeights) -> Iterator[BarPanel]:
    title = (f"Stage {module.stage}", module.kind)
    if module.frequencies:
        values = np.array([frequency.weight for frequency in module.frequencies], np.float32)
        labels = tuple(f"{frequency.row},{frequency.column}" for frequency in module.frequencies)
        yield BarPanel((*title, "by DCT row,column", _mean(values)), values, labels)
    elif module.channels is not None:
        values = -np.sort(-module.channels)
        yield BarPanel((*title, f"{len(values)} channels, sorted", _mean(values)), _thinned(values))
    if module.frames is not None:
        yield BarPanel((*title, "by frame", _mean(module.frames)), module.frames, along_frames=True)


def _bounds(values: FloatArray) -> Bounds:
    return float(values.min()), float(values.max())


def _mean(values: FloatArray) -> str:
    """Format the mean, from which bars rise and fall, and the difference of a full bar."""
    mean = float(values.mean())
    return f"mean {number(mean)} ±{float(np.abs(values - mean).max()):.2g}"


def _thinned(values: FloatArray) -> FloatArray:
    """Return at most as many values as can be told apart, evenly spread."""
    if len(values) <= _MOST_BARS:
        return values
    return values[np.arange(_MOST_BARS) * len(values) // _MOST_BARS]
