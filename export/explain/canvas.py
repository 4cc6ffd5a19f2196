"""What a picture is put together from: text, heat maps over frames, colour scales and bars; all RGB uint8 (H, W, 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeact.video import Image

__all__ = ["INK", "LESS", "MORE", "MUTED", "Bars", "Rect", "blank", "colour_scale", "overlay", "resized", "write"]

Colour = tuple[int, int, int]
INK: Colour = (33, 37, 41)
MUTED: Colour = (108, 117, 125)
RULE: Colour = (206, 212, 218)
MORE: Colour = (217, 95, 14)
LESS: Colour = (62, 110, 176)

_PIXELS_PER_SCALE = 22.0
_FONTS = {False: cv2.FONT_HERSHEY_SIMPLEX, True: cv2.FONT_HERSHEY_DUPLEX}
_HEAT = cv2.COLORMAP_INFERNO
_HEAT_SHARE = 0.6
_LIGHTER = 0.3


@dataclass(frozen=True)
class Rect:
    """Pixels of an image."""

    left: int
    top: int
    width: int
    height: int


def blank(height: int, width: int) -> Image:
    """White."""
    return np.full((height, width, 3), 255, np.uint8)


def resized(image: Image, height: int, width: int) -> Image:
    """Smooth in both directions."""
    shrinks = height < image.shape[0]
    scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(scaled, np.uint8)


def write(
    image: Image,
    text: str,
    at: tuple[int, int],
    pixels: int = 13,
    *,
    colour: Colour = INK,
    align: Literal["left", "centre", "right"] = "left",
) -> None:
    """Text of about so many pixels in height, its baseline at (x, y); bold from 15 pixels on."""
    font, scale = _FONTS[pixels >= 15], pixels / _PIXELS_PER_SCALE
    (width, _), _ = cv2.getTextSize(text, font, scale, 1)
    x = at[0] - {"left": 0, "centre": width // 2, "right": width}[align]
    cv2.putText(image, text, (x, at[1]), font, scale, colour, 1, cv2.LINE_AA)


def overlay(frame: Image, values: NDArray[np.float32], bounds: tuple[float, float]) -> Image:
    """The frame in grey under the heat of `values` (any height and width), from the lower to the upper bound."""
    height, width = frame.shape[:2]
    smooth = np.asarray(
        cv2.resize(_within(values, bounds), (width, height), interpolation=cv2.INTER_LINEAR), np.float32
    )
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    grey = cv2.addWeighted(grey, 1 - _LIGHTER, np.full_like(grey, 255), _LIGHTER, 0)  # to be seen under dark heat
    return np.asarray(cv2.addWeighted(grey, 1 - _HEAT_SHARE, _heat(smooth), _HEAT_SHARE, 0), np.uint8)


def colour_scale(image: Image, rect: Rect, bounds: tuple[float, float]) -> None:
    """The colours of `overlay` as an upright strip, its bounds written beside it."""
    ramp = np.linspace(1, 0, rect.height, dtype=np.float32)[:, None].repeat(rect.width, axis=1)
    image[rect.top : rect.top + rect.height, rect.left : rect.left + rect.width] = _heat(ramp)
    right = rect.left + rect.width + 5
    write(image, number(bounds[1]), (right, rect.top + 10), 11, colour=MUTED)
    write(image, number(bounds[0]), (right, rect.top + rect.height - 1), 11, colour=MUTED)


def number(value: float) -> str:
    """About three significant digits, short."""
    if abs(value) < 0.0005:
        return "0"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


@dataclass(frozen=True, eq=False)
class Bars:
    """Weights as bars up and down from their mean: what is weighed more than the rest, and what less."""

    values: NDArray[np.float32]
    labels: tuple[str, ...] = ()
    """Below each bar."""
    marked: int | None = None
    """One that stands out; the others are pale."""

    def draw(self, image: Image, rect: Rect) -> None:
        """Each bar has the same share of the rectangle's width; the largest difference fills it up or down."""
        mean, middle = float(self.values.mean()), rect.top + rect.height // 2
        largest = float(np.abs(self.values - mean).max())
        reach = rect.height // 2 - 16
        decimals = _decimals(largest)
        for index, value in enumerate(self.values):
            left, right = self._span(rect, index)
            length = round(reach * (float(value) - mean) / largest) if largest > 0 else 0
            colour = MORE if length > 0 else LESS
            if self.marked not in (None, index):
                colour = _pale(colour)
            top, bottom = (middle - length, middle) if length > 0 else (middle + 1, middle + 1 - length)
            image[top:bottom, left:right] = colour
            if right - left >= 32 + 6 * (decimals - 3):
                centre = (left + right) // 2
                write(
                    image, f"{value:.{decimals}f}", (centre, top - 4 if length > 0 else bottom + 11), 10, align="centre"
                )
        image[middle, rect.left : rect.left + rect.width] = MUTED
        for index, label in enumerate(self.labels):
            left, right = self._span(rect, index)
            write(image, label, ((left + right) // 2, rect.top + rect.height + 9), 10, colour=MUTED, align="centre")

    def _span(self, rect: Rect, index: int) -> tuple[int, int]:
        share = rect.width / len(self.values)
        gap = min(0.1 * share, 3) if share >= 6 else 0
        return rect.left + round(index * share + gap), rect.left + round((index + 1) * share - gap)


def _decimals(difference: float) -> int:
    """As many as show a difference, from 3 to 6."""
    return min(max(3, 1 - math.floor(math.log10(difference))), 6) if difference > 0 else 3


def _pale(colour: Colour) -> Colour:
    red, green, blue = ((part + 2 * 255) // 3 for part in colour)
    return red, green, blue


def _within(values: NDArray[np.float32], bounds: tuple[float, float]) -> NDArray[np.float32]:
    low, high = bounds
    spread = (high - low) or 1.0
    return np.asarray(np.clip((values - low) / spread, 0, 1), np.float32)


def _heat(values: NDArray[np.float32]) -> Image:
    """`values` from 0 to 1 as colours."""
    levels = np.round(np.asarray(values) * 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(levels, _HEAT), cv2.COLOR_BGR2RGB), np.uint8)
