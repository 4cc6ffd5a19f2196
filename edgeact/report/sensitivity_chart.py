"""Draw the INT8 sensitivity: a bar for each layer, the worst at the top."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeact.records import LayerSensitivity, Sensitivity
from edgeact.report.formatting import percent, snr_text
from edgeact.report.sensitivity import layer_name, worst_first
from edgeact.report.svg import COLORS, NARROW_PX, Heading, new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_sensitivity"]

_ROW_PX = 19.0
_STACKED_ROW_PX = 31.0
_BAR_PX = 11.0
_FRAME_PX = 90.0  # above and below the bars
_STEP_DB = 10
_KEYS = {False: "INT8", True: "kept in float by mixed precision"}
_TITLE = "Signal to noise at the output with one layer in INT8, the worst layer first"


def draw_sensitivity(sensitivity: Sensitivity, name: str, css_class: str, width_px: int) -> str:
    """Draw `sensitivity` in `width_px` pixels; if that is narrow, the names stand above their bars.

    `name` is unique on the page. Raises MissingExtraError if matplotlib or textalloc is not installed.
    """
    is_narrow = width_px < NARROW_PX
    layers = worst_first(sensitivity)
    row_px = _STACKED_ROW_PX if is_narrow else _ROW_PX
    tooltips = {f"layer-{index}": _tooltip(layer) for index, layer in enumerate(layers)}
    with new_figure(width_px, _FRAME_PX + row_px * len(layers)) as figure:
        axes = figure.add_subplot()
        _scale(axes, sensitivity)
        _draw_bars(axes, layers, height=_BAR_PX / row_px)
        _write_names(axes, layers, is_above=is_narrow)
        _mark_graphs(axes, sensitivity)
        figure.legend(loc="outside lower left", ncols=1 if is_narrow else 2, labelcolor=COLORS["soft"])
        return to_svg(figure, Heading(name, css_class, _TITLE), tooltips)


def _tooltip(layer: LayerSensitivity) -> str:
    kept = "; kept in float" if layer.float_reason else ""
    return f"{layer_name(layer)}: {snr_text(layer.snr_db)}, same top-1 on {percent(layer.top1_agreement)} %{kept}"


def _scale(axes: Axes, sensitivity: Sensitivity) -> None:
    """Set the axis, dB, to whole steps around all values; more noise lies to the right."""
    from matplotlib.ticker import MaxNLocator

    known = (sensitivity.snr_db, sensitivity.mixed_snr_db, *(layer.snr_db for layer in sensitivity.layers))
    values = [value for value in known if value is not None]
    low = _STEP_DB * math.floor(min(values, default=0.0) / _STEP_DB)
    high = max(_STEP_DB * math.ceil(max(values, default=0.0) / _STEP_DB), low + _STEP_DB)
    axes.set_xlim(high, low)
    axes.set_ylim(len(sensitivity.layers) - 0.4, -0.8)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    axes.set_xlabel("dB with this layer alone in INT8; longer is worse")
    axes.grid(visible=False, axis="y")


def _draw_bars(axes: Axes, layers: Sequence[LayerSensitivity], height: float) -> None:
    """Draw a bar from the quiet end of the axis to each layer's SNR; a layer without noise has a bar of no length."""
    quiet, _ = axes.get_xlim()
    is_float = [bool(layer.float_reason) for layer in layers]
    keys = {is_float.index(kind): key for kind, key in _KEYS.items() if kind in is_float}
    bars = axes.barh(
        range(len(layers)),
        [0.0 if layer.snr_db is None else layer.snr_db - quiet for layer in layers],
        left=quiet,
        height=height,
        color=[COLORS["paper" if kept else "int8"] for kept in is_float],
        edgecolor=[COLORS["fp16" if kept else "int8"] for kept in is_float],
        linewidth=1.2,
        label=[keys.get(index, "_") for index in range(len(layers))],
    )
    for index, bar in enumerate(bars):
        bar.set_gid(f"layer-{index}")


def _write_names(axes: Axes, layers: Sequence[LayerSensitivity], *, is_above: bool) -> None:
    """Write each layer's name left of its bar or above it, in bold if kept in float, and its SNR on the right."""
    names = [layer_name(layer) for layer in layers]
    if is_above:
        quiet, _ = axes.get_xlim()
        axes.set_yticks([])
        texts = [axes.text(quiet, index - 0.25, name, va="bottom") for index, name in enumerate(names)]
    else:
        axes.set_yticks(range(len(layers)), names)
        texts = axes.get_yticklabels()
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(layers)), [snr_text(layer.snr_db) for layer in layers])
    right.yaxis.set_tick_params(labelcolor=COLORS["ink"])
    right.grid(visible=False)
    right.spines["right"].set_visible(False)
    for text, layer in zip(texts, layers, strict=True):
        text.set(color=COLORS["ink"], fontweight="bold" if layer.float_reason else "normal")


def _mark_graphs(axes: Axes, sensitivity: Sensitivity) -> None:
    """Draw a dashed line at the SNR of the graph with all layers in INT8, and at that of the mixed graph."""
    known = {"all INT8": sensitivity.snr_db, "mixed": sensitivity.mixed_snr_db}
    marks = [(name, value) for name, value in known.items() if value is not None]
    for row, (name, value) in enumerate(marks):
        axes.axvline(value, color=COLORS["ink"], linewidth=1.2, linestyle=(0, (4, 3)), gid=f"whole-{row}")
        axes.annotate(
            f"{name} {snr_text(value)}",
            (value, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2 + 14 * row),
            textcoords="offset pixels",
            horizontalalignment="center",
        )
