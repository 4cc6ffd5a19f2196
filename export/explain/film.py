"""Clips as a film: the frame, every map over it, and the bars with the frame's own standing out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgeact.export.explain.canvas import MUTED, Rect, blank, colour_scale, overlay, resized, write
from edgeact.export.explain.clip_view import Look
from edgeact.export.explain.panels import GAP, LEFT, RIGHT, Maps, Plot, entries, with_bars
from edgeact.export.explain.sheet import header
from edgeact.video import Image

__all__ = ["film"]

_MARGIN = 20
_TILES_ACROSS = 4
_TILE, _SCALE, _CAPTION = 208, 62, 40


def film(look: Look, title: str, subtitle: str) -> Iterator[Image]:
    """One RGB uint8 (H, W, 3) for each frame of the clip, all of one size for all clips of a network."""
    drawn = list(entries(look))
    maps = [entry for entry in drawn if isinstance(entry, Maps)]
    plots = [entry for entry in drawn if isinstance(entry, Plot)]
    width = _TILES_ACROSS * (_TILE + _SCALE)
    top = header(look, title, subtitle, width)
    for frame in range(len(look.frames)):
        rows = [top, *_tiles(look, maps, frame)]
        rows += [with_bars(plot, width - LEFT - RIGHT, (frame, len(look.frames))) for plot in plots]
        spaced = [np.pad(row, ((0, GAP), (0, 0), (0, 0)), constant_values=255) for row in rows]
        whole = np.pad(np.vstack(spaced), ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), constant_values=255)
        yield whole[: whole.shape[0] // 2 * 2, : whole.shape[1] // 2 * 2]  # as the encoder needs it


def _tiles(look: Look, maps: Sequence[Maps], frame: int) -> Iterator[Image]:
    """Rows of tiles: the frame itself, then the maps."""
    height = round(_TILE * look.frames.shape[1] / look.frames.shape[2])
    image = resized(look.frames[frame], height, _TILE)
    tiles = [_tile(image, ("Input", f"{look.time_s(frame):.2f} s"))]
    for one in maps:
        tile = _tile(overlay(image, look.of_frame(one.values, frame), one.bounds), one.lines)
        colour_scale(tile, Rect(_TILE + 6, 0, 8, height), one.bounds)
        tiles.append(tile)
    tiles += [blank(*tiles[0].shape[:2])] * (-len(tiles) % _TILES_ACROSS)
    for start in range(0, len(tiles), _TILES_ACROSS):
        yield np.hstack(tiles[start : start + _TILES_ACROSS])


def _tile(image: Image, lines: Sequence[str]) -> Image:
    """A picture with two lines below it and room for a colour scale at its right."""
    tile = blank(image.shape[0] + _CAPTION, _TILE + _SCALE)
    tile[: image.shape[0], :_TILE] = image
    write(tile, " ".join(lines[:2]), (0, image.shape[0] + 15), 13)
    write(tile, ", ".join(lines[2:]), (0, image.shape[0] + 31), 11, colour=MUTED)
    return tile
