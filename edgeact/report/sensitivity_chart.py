"""The damage of INT8 by layer: in which order, where every bar goes, and what stands beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeact.records import LayerDamage, Sensitivity
from edgeact.report.formatting import percent

__all__ = ["HEADS", "Bar", "Chart", "Mark", "cells", "lay_out", "sentences", "short_name", "worst_first"]

HEADS = ("layer", "MMACs", "SNR alone", "same top-1 alone", "mixed precision")

_VALUE_PX = 64.0
_LABEL_PX = 280.0
_ROW_PX = 19.0
_STACKED_ROW_PX = 31.0
_BAR_PX = 11.0
_TOP_PX = 34.0
_AXIS_PX = 40.0
_STEP_DB = 10


@dataclass(frozen=True)
class Bar:
    """A layer's bar, pixels: its left end is the chart's, longer is worse."""

    damage: LayerDamage
    label_x: float
    label_y: float
    y: float
    width: float
    value_y: float

    @property
    def value(self) -> str:
        """The SNR, short."""
        return _snr(self.damage.snr_db)


@dataclass(frozen=True)
class Mark:
    """A vertical line at an SNR."""

    x: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Bars laid out for one width, pixels; the layer that does most damage stands at the top."""

    width: int
    height: float
    left: float
    right: float
    bottom: float
    bar_height: float
    bars: tuple[Bar, ...]
    ticks: tuple[Mark, ...]
    wholes: tuple[Mark, ...]
    """All layers in INT8, and the mix where there is one."""


def lay_out(sensitivity: Sensitivity, width: int) -> Chart:
    """Lay the layers out in `width` pixels; below 500 the names stand above their bars and not beside them."""
    is_stacked = width < 500
    left = 8.0 if is_stacked else _LABEL_PX
    right, row = width - _VALUE_PX, _STACKED_ROW_PX if is_stacked else _ROW_PX
    low, high = _ends(sensitivity)

    def at(snr_db: float | None) -> float:
        share = 0.0 if snr_db is None else (high - min(max(snr_db, low), high)) / (high - low)
        return round(left + share * (right - left), 1)

    bars = []
    for index, damage in enumerate(worst_first(sensitivity)):
        top = _TOP_PX + index * row
        y = top + (16.0 if is_stacked else 3.0)
        x, label_y = (left, top + 12.0) if is_stacked else (left - 8.0, top + 13.0)
        bars.append(Bar(damage, x, label_y, y, round(max(at(damage.snr_db) - left, 1.0), 1), y + 10.0))
    bottom = _TOP_PX + len(bars) * row + 2.0
    ticks = tuple(Mark(at(value), f"{value}") for value in range(low, high + 1, _ticks_db(high - low, right - left)))
    marks = (("all INT8", sensitivity.snr_db), ("mixed", sensitivity.mixed_snr_db))
    wholes = tuple(Mark(at(value), f"{name} {_snr(value)}") for name, value in marks if value is not None)
    return Chart(width, bottom + _AXIS_PX, left, right, bottom, _BAR_PX, tuple(bars), ticks, wholes)


def worst_first(sensitivity: Sensitivity) -> list[LayerDamage]:
    """The layers by the noise they make alone, most first."""
    return sorted(sensitivity.layers, key=lambda damage: math.inf if damage.snr_db is None else damage.snr_db)


def short_name(damage: LayerDamage) -> str:
    """What to call a layer: its module where the weight still has the state dict's name, else the graph's node."""
    module = damage.weight.removesuffix(".weight")
    return module if module and "/" not in module else damage.layer


def sentences(sensitivity: Sensitivity) -> tuple[str, ...]:
    """What was measured, and what mixed precision made of it."""
    told = [
        f"One layer after the other in INT8, all others in float, on {sensitivity.clips} calibration clips: the signal "
        f"to noise ratio at the output. With all {len(sensitivity.layers)} layers in INT8 it is "
        f"{_snr(sensitivity.snr_db)}, and the top-1 class is the same on {percent(sensitivity.top1_agreement)} % of "
        "the clips."
    ]
    if sensitivity.mixed_top1_agreement is not None:
        count = sum(bool(damage.float_reason) for damage in sensitivity.layers)
        told.append(
            f"With {count} layers left in float it is {_snr(sensitivity.mixed_snr_db)}, and the class is the same on "
            f"{percent(sensitivity.mixed_top1_agreement)} %."
        )
    return tuple(told)


def cells(damage: LayerDamage) -> tuple[str, ...]:
    """A layer as the cells of a table row, see HEADS."""
    return (
        short_name(damage),
        f"{damage.macs / 1e6:.2f}",
        _snr(damage.snr_db),
        f"{percent(damage.top1_agreement)} %",
        "float" if damage.float_reason else "INT8",
    )


def _snr(value: float | None) -> str:
    return "no error" if value is None else f"{value:.1f} dB"


def _ends(sensitivity: Sensitivity) -> tuple[int, int]:
    """The axis, dB, in whole steps around every value there is."""
    wholes = (sensitivity.snr_db, sensitivity.mixed_snr_db)
    values = [value for value in (*wholes, *(one.snr_db for one in sensitivity.layers)) if value is not None]
    low = _STEP_DB * math.floor(min(values, default=0.0) / _STEP_DB)
    return low, max(_STEP_DB * math.ceil(max(values, default=0.0) / _STEP_DB), low + _STEP_DB)


def _ticks_db(span: int, pixels: float) -> int:
    """A step that leaves some 40 pixels to every tick."""
    return next((step for step in (10, 20, 50, 100) if span / step * 40 <= pixels), 200)
