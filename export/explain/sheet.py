"""One clip on one sheet: frames across; below them the weights of each attention module, and Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeact.export.explain.clip_view import ClipView
from edgeact.export.explain.drawing import INK, MUTED, Frame, Page, Rect, draw_bars, draw_scale
from edgeact.export.explain.panels import MapPanel, panels_of

__all__ = [
    "BARS_HEIGHT",
    "CAPTION",
    "GAP",
    "HEADER",
    "LABELS",
    "MARGIN",
    "SCALE",
    "draw_caption",
    "draw_header",
    "sheet",
]

MARGIN = 20
HEADER = 56
GAP = 8
CAPTION = 160
"""Width left of the panels."""
SCALE = 70
"""Width right of the panels."""
BARS_HEIGHT = 100
LABELS = 14
"""Height below bars with labels."""

_FRAME_GAP = 4
_LEAST_CONTENT, _MOST_CONTENT = 480, 1400
_WIDEST, _MOST_COLUMNS = 136, 16


@dataclass(frozen=True)
class _Grid:
    """The frames across the sheet."""

    columns: tuple[int, ...]
    """The frames shown."""
    width: int
    """Of a frame, pixels."""
    height: int

    @classmethod
    def of(cls, view: ClipView) -> _Grid:
        frames, height, width, _ = view.frames.shape
        count = min(frames, _MOST_COLUMNS)
        shown = max(min(_WIDEST, _MOST_CONTENT // count), _LEAST_CONTENT // count)
        columns = tuple(index * frames // count for index in range(count))
        return cls(columns, shown, round(shown * height / width))

    @property
    def content(self) -> int:
        """Width of all frames."""
        return len(self.columns) * (self.width + _FRAME_GAP) - _FRAME_GAP

    def rect(self, position: int, top: int) -> Rect:
        return Rect(MARGIN + CAPTION + position * (self.width + _FRAME_GAP), top, self.width, self.height)


def sheet(view: ClipView, title: str, subtitle: str) -> Page:
    """Draw a sheet; 16 frames, evenly spread, of a clip with more. Call inside `drawing`."""
    grid, panels = _Grid.of(view), list(panels_of(view))
    heights = [
        grid.height if isinstance(panel, MapPanel) else BARS_HEIGHT + (LABELS if panel.labels else 0)
        for panel in panels
    ]
    body = HEADER + grid.height + 16 + sum(height + GAP for height in heights)
    page = Page(2 * MARGIN + CAPTION + grid.content + SCALE, 2 * MARGIN + body)
    draw_header(page, view, title, subtitle)
    top = MARGIN + HEADER
    _draw_input(page, view, grid, top)
    top += grid.height + 16 + GAP
    for panel, height in zip(panels, heights, strict=True):
        draw_caption(page, panel.lines, top, height)
        if isinstance(panel, MapPanel):
            _draw_maps(page, panel, view, grid, top)
        else:
            draw_bars(page, Rect(MARGIN + CAPTION, top, grid.content, BARS_HEIGHT), panel.values, panel.labels)
        top += height + GAP
    return page


def draw_header(page: Page, view: ClipView, title: str, subtitle: str) -> None:
    """Write the model and the video at the left, the best labels at the right."""
    best, *others = view.ranking
    right = page.width - MARGIN
    page.text(title, (MARGIN, MARGIN + 19), 20)
    page.text(f"{best.label}  {best.score:.1%}", (right, MARGIN + 19), 20, align="right")
    page.text(subtitle, (MARGIN, MARGIN + 40), 12, color=MUTED)
    text = "   ".join(f"{other.label} {other.score:.1%}" for other in others)
    page.text(text, (right, MARGIN + 40), 12, color=MUTED, align="right")


def draw_caption(page: Page, lines: Sequence[str], top: int, height: int) -> None:
    """Write lines left of a panel, centered on its height: the first dark, the others muted."""
    first = top + max((height - 16 * len(lines)) // 2, 0) + 12
    for index, line in enumerate(lines):
        page.text(line, (MARGIN, first + 16 * index), 13 if index == 0 else 12, color=MUTED if index else INK)


def _draw_input(page: Page, view: ClipView, grid: _Grid, top: int) -> None:
    draw_caption(page, ("Input", "time in seconds"), top, grid.height)
    for position, frame in enumerate(grid.columns):
        rect = grid.rect(position, top)
        Frame(page.axes(rect), view.frames[frame])
        middle = (rect.left + rect.width / 2, top + grid.height + 13)
        page.text(f"{view.time_s(frame):.2f}", middle, 11, color=MUTED, align="center")


def _draw_maps(page: Page, panel: MapPanel, view: ClipView, grid: _Grid, top: int) -> None:
    for position, frame in enumerate(grid.columns):
        heat = view.at_frame(panel.values, frame)
        Frame(page.axes(grid.rect(position, top)), view.frames[frame], heat, panel.bounds)
    draw_scale(page, Rect(MARGIN + CAPTION + grid.content + 10, top, 10, grid.height), panel.bounds)
