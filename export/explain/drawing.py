"""Draw attention pictures with matplotlib: a page laid out in pixels, frames under heat maps, bars, color scales."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgeact.export.explain.attention_weights import FloatArray
from edgeact.report.svg import matplotlib_defaults
from edgeact.video import Image

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from matplotlib.patches import Rectangle
    from matplotlib.text import Text

__all__ = [
    "INK",
    "LESS",
    "MORE",
    "MUTED",
    "Bounds",
    "Frame",
    "Page",
    "Rect",
    "draw_bars",
    "draw_scale",
    "drawing",
    "mark_bar",
    "number",
]

INK = "#212529"
MUTED = "#6c757d"
MORE = "#d95f0e"
"""A bar above the mean."""
LESS = "#3e6eb0"
"""A bar below the mean."""

Bounds = tuple[float, float]
"""The values at the lower and the upper end of a color scale."""

_DPI = 100
_POINTS_PER_PIXEL = 72 / _DPI
_HEAT = "inferno"
_HEAT_ALPHA = 0.6
_LIGHTENED = 0.3  # of the gray frame, to be seen under dark heat
_PALE = 1 / 3  # opacity of bars beside the marked one
_DIGIT_PX = 6  # of a bar's label
_LABEL_PX = 32  # width of a label with three decimals
_LABEL_SHARE = 0.32  # of half a bar plot's height, for the labels beyond the bars

# Labels may be in scripts that matplotlib's own font lacks: the first of these that is installed draws them.
_FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans", "WenQuanYi Micro Hei", "Microsoft YaHei"),
    *("PingFang SC", "Hiragino Sans", "Arial Unicode MS", "Noto Sans"),
)


@dataclass(frozen=True)
class Rect:
    """A rectangle of a page, in pixels from its upper left corner."""

    left: float
    top: float
    width: float
    height: float


class Page:
    """A white page; its methods take pixels from the upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self._figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        self._canvas = FigureCanvasAgg(self._figure)
        self._changing: list[Artist] = []
        self._background: object = None

    def axes(self, rect: Rect) -> Axes:
        """Add axes without ticks and frame."""
        bottom = self.height - rect.top - rect.height
        axes = self._figure.add_axes(
            (rect.left / self.width, bottom / self.height, rect.width / self.width, rect.height / self.height)
        )
        axes.set_axis_off()
        return axes

    def text(
        self,
        text: str,
        at: tuple[float, float],
        pixels: float = 12,
        *,
        color: str = INK,
        align: Literal["left", "center", "right"] = "left",
    ) -> Text:
        """Write text `pixels` high with its baseline at (x, y); bold from 15 pixels on."""
        return self._figure.text(
            at[0] / self.width,
            1 - at[1] / self.height,
            text,
            fontsize=pixels * _POINTS_PER_PIXEL,
            fontweight="bold" if pixels >= 15 else "normal",
            color=color,
            horizontalalignment=align,
            verticalalignment="baseline",
        )

    def changes(self, *artists: Artist) -> None:
        """Draw `artists` anew for every call of `pixels`, above everything else, which is drawn once."""
        for artist in artists:
            artist.set_animated(True)
        self._changing += artists

    def pixels(self) -> Image:
        """Render the page: RGB uint8 `(H, W, 3)`. Once called, only artists that were named to `changes` may change."""
        canvas: Any = self._canvas  # its methods are not annotated
        with _missing_glyphs_as_boxes():
            if self._background is None:
                canvas.draw()
                self._background = canvas.copy_from_bbox(self._figure.bbox)
            canvas.restore_region(self._background)
            for artist in self._changing:
                self._figure.draw_artist(artist)
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def png(self) -> bytes:
        """Render the page as a PNG file; equal pages give equal bytes."""
        buffer = io.BytesIO()
        with _missing_glyphs_as_boxes():
            self._figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
        return buffer.getvalue()


@contextlib.contextmanager
def _missing_glyphs_as_boxes() -> Iterator[None]:
    """Do not warn of characters that no installed font has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Make pages inside look the same whatever the user's matplotlibrc says.

    Raises MissingExtraError if matplotlib is not installed.
    """
    with matplotlib_defaults("export"):
        import matplotlib
        from matplotlib.font_manager import fontManager

        installed = {font.name for font in fontManager.ttflist}
        matplotlib.rcParams["font.family"] = ["DejaVu Sans", *(name for name in _FALLBACKS if name in installed)]
        matplotlib.rcParams["text.parse_math"] = False
        yield


class Frame:
    """A frame of the clip, if wanted gray under a heat map."""

    def __init__(self, axes: Axes, frame: Image, heat: FloatArray | None = None, bounds: Bounds = (0.0, 1.0)) -> None:
        """`heat` is `(H', W')` of any size; `bounds` are the values at the ends of its colors."""
        self._image = _show(axes, _gray(frame) if heat is not None else frame)
        self._heat: AxesImage | None = None
        if heat is not None:
            low, high = bounds
            extent = self._image.get_extent()
            self._heat = axes.imshow(
                heat,
                cmap=_HEAT,
                vmin=low,
                vmax=high if high > low else low + 1,
                alpha=_HEAT_ALPHA,
                interpolation="bilinear",
                aspect="auto",
                extent=extent,
            )

    @property
    def artists(self) -> list[Artist]:
        """What `update` changes."""
        return [self._image] if self._heat is None else [self._image, self._heat]

    def update(self, frame: Image, heat: FloatArray | None = None) -> None:
        """Show another frame, and another heat map in the same bounds."""
        self._image.set_data(_gray(frame) if self._heat is not None else frame)
        if self._heat is not None and heat is not None:
            self._heat.set_data(heat)


def _show(axes: Axes, image: Image) -> AxesImage:
    return axes.imshow(image, interpolation="antialiased", aspect="auto")


def _gray(frame: Image) -> Image:
    luma = frame @ np.array([0.299, 0.587, 0.114])
    return np.repeat((luma * (1 - _LIGHTENED) + 255 * _LIGHTENED).astype(np.uint8)[..., None], 3, axis=2)


def draw_scale(page: Page, rect: Rect, bounds: Bounds) -> None:
    """Draw the colors of heat maps as an upright strip with their bounds at its right."""
    axes = page.axes(rect)
    axes.imshow(np.linspace(1, 0, round(rect.height))[:, None], cmap=_HEAT, aspect="auto", vmin=0, vmax=1)
    right = rect.left + rect.width + 5
    page.text(number(bounds[1]), (right, rect.top + 9), 11, color=MUTED)
    page.text(number(bounds[0]), (right, rect.top + rect.height), 11, color=MUTED)


def draw_bars(page: Page, rect: Rect, values: FloatArray, labels: Sequence[str] = ()) -> list[Rectangle]:
    """Draw weights as bars up and down from their mean, equally wide; the largest difference fills the height.

    `labels` are written below the rectangle. Returns a bar per value.
    """
    axes, share = page.axes(rect), rect.width / len(values)
    differences = values.astype(np.float64) - float(values.mean(dtype=np.float64))
    largest = float(np.abs(differences).max())
    gap = min(0.1 * share, 3) / share if share >= 6 else 0.0
    bars = axes.bar(
        range(len(values)),
        differences,
        width=1 - 2 * gap,
        color=[MORE if difference > 0 else LESS for difference in differences],
        antialiased=False,
        linewidth=0,
    )
    axes.axhline(0, color=MUTED, linewidth=_POINTS_PER_PIXEL, antialiased=False)
    axes.set_xlim(-0.5, len(values) - 0.5)
    reach = (largest or 1.0) / (1 - _LABEL_SHARE)
    axes.set_ylim(-reach, reach)
    decimals = _decimals(largest)
    if share * (1 - 2 * gap) >= _LABEL_PX + _DIGIT_PX * (decimals - 3):
        texts = [f"{value:.{decimals}f}" for value in values]
        axes.bar_label(bars, texts, fontsize=10.5 * _POINTS_PER_PIXEL, padding=2, color=INK)
    for index, label in enumerate(labels):
        middle = rect.left + (index + 0.5) * share
        page.text(label, (middle, rect.top + rect.height + 10), 10.5, color=MUTED, align="center")
    return list(bars.patches)


def mark_bar(bars: Sequence[Rectangle], marked: int) -> None:
    """Show one bar in full color and the others pale."""
    for index, bar in enumerate(bars):
        bar.set_alpha(1.0 if index == marked else _PALE)


def number(value: float) -> str:
    """Format with about three significant digits."""
    if abs(value) < 0.0005:
        return "0"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _decimals(difference: float) -> int:
    """Return the number of decimals, 3 to 6, that shows a difference."""
    return min(max(3, 1 - math.floor(math.log10(difference))), 6) if difference > 0 else 3
