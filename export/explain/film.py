"""Clips as a film: the frame beside its maps, above bars among which those of the frame stand out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edgeact.export.explain.clip_view import ClipView
from edgeact.export.explain.drawing import MUTED, Frame, Page, Rect, draw_bars, draw_scale, mark_bar
from edgeact.export.explain.panels import BarPanel, MapPanel, panels_of
from edgeact.export.explain.sheet import (
    BARS_HEIGHT,
    CAPTION,
    GAP,
    HEADER,
    LABELS,
    MARGIN,
    SCALE,
    draw_caption,
    draw_header,
)
from edgeact.video import Image

__all__ = ["film"]

_TILES_ACROSS = 4
_TILE, _TILE_SCALE, _TILE_CAPTION = 208, 62, 40
_WIDTH = 2 * MARGIN + _TILES_ACROSS * (_TILE + _TILE_SCALE)

_Update = Callable[[int], None]
"""Shows a frame of the clip, by its index."""


def film(view: ClipView, title: str, subtitle: str) -> Iterator[Image]:
    """Yield RGB uint8 `(H, W, 3)` per frame of the clip, of even sides equal for all clips of a network.

    Call inside `drawing`.
    """
    panels = list(panels_of(view))
    maps = [panel for panel in panels if isinstance(panel, MapPanel)]
    bars = [panel for panel in panels if isinstance(panel, BarPanel)]
    tile_height = round(_TILE * view.frames.shape[1] / view.frames.shape[2])
    row_height = tile_height + _TILE_CAPTION + GAP
    rows = -(-(len(maps) + 1) // _TILES_ACROSS)
    body = HEADER + rows * row_height + len(bars) * (BARS_HEIGHT + LABELS + GAP)
    page = Page(_WIDTH, 2 * MARGIN + body + body % 2)
    draw_header(page, view, title, subtitle)
    rects = [
        Rect(MARGIN + column * (_TILE + _TILE_SCALE), MARGIN + HEADER + row * row_height, _TILE, tile_height)
        for row in range(rows)
        for column in range(_TILES_ACROSS)
    ]
    updates = [_draw_input(page, rects[0], view)]
    updates += [_draw_map(page, rect, panel, view) for rect, panel in zip(rects[1:], maps, strict=False)]
    top = MARGIN + HEADER + rows * row_height
    for panel in bars:
        updates += _draw_bars(page, panel, top, len(view.frames))
        top += BARS_HEIGHT + LABELS + GAP
    for frame in range(len(view.frames)):
        for update in updates:
            update(frame)
        yield page.pixels()


def _draw_input(page: Page, rect: Rect, view: ClipView) -> _Update:
    tile = Frame(page.axes(rect), view.frames[0])
    caption = page.text("", (rect.left, rect.top + rect.height + 16), 13)
    page.changes(*tile.artists, caption)

    def update(frame: int) -> None:
        tile.update(view.frames[frame])
        caption.set_text(f"Input {view.time_s(frame):.2f} s")

    return update


def _draw_map(page: Page, rect: Rect, panel: MapPanel, view: ClipView) -> _Update:
    tile = Frame(page.axes(rect), view.frames[0], view.at_frame(panel.values, 0), panel.bounds)
    page.changes(*tile.artists)
    draw_scale(page, Rect(rect.left + rect.width + 6, rect.top, 8, rect.height), panel.bounds)
    _draw_tile_caption(page, panel.lines, rect)
    return lambda frame: tile.update(view.frames[frame], view.at_frame(panel.values, frame))


def _draw_tile_caption(page: Page, lines: Sequence[str], rect: Rect) -> None:
    bottom = rect.top + rect.height
    page.text(" ".join(lines[:2]), (rect.left, bottom + 16), 13)
    page.text(" ".join(lines[2:]), (rect.left, bottom + 32), 11, color=MUTED)


def _draw_bars(page: Page, panel: BarPanel, top: int, frames: int) -> list[_Update]:
    """Draw bars; bars along frames are updated."""
    draw_caption(page, panel.lines, top, BARS_HEIGHT)
    rect = Rect(MARGIN + CAPTION, top, _WIDTH - 2 * MARGIN - CAPTION - SCALE, BARS_HEIGHT)
    bars = draw_bars(page, rect, panel.values, panel.labels)
    if not panel.along_frames:
        return []
    page.changes(*bars)
    return [lambda frame: mark_bar(bars, frame * len(bars) // frames)]
