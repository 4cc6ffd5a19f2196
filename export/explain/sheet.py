"""One clip on one sheet: frames across; below them what each attention module weighs, and Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeact.export.explain.canvas import MUTED, blank, resized, write
from edgeact.export.explain.clip_view import Look
from edgeact.export.explain.panels import GAP, LEFT, RIGHT, Maps, entries, named, with_bars, with_maps
from edgeact.video import Image

__all__ = ["header", "sheet"]

_MARGIN = 20
_HEADER = 56
_LEAST_CONTENT, _MOST_CONTENT = 480, 1400
_WIDEST, _MOST_COLUMNS = 136, 16


def sheet(look: Look, title: str, subtitle: str) -> Image:
    """RGB uint8 (H, W, 3). Of a clip of more than 16 frames it shows 16, evenly spread."""
    count = min(len(look.frames), _MOST_COLUMNS)
    columns = [index * len(look.frames) // count for index in range(count)]
    width = max(min(_WIDEST, _MOST_CONTENT // count), _LEAST_CONTENT // count)
    cell = (round(width * look.frames.shape[1] / look.frames.shape[2]), width)
    content = count * (width + GAP) - GAP
    rows = [header(look, title, subtitle, LEFT + content + RIGHT), _frames(look, columns, cell)]
    for entry in entries(look):
        rows.append(with_maps(entry, look, columns, cell) if isinstance(entry, Maps) else with_bars(entry, content))
    spaced = [np.pad(row, ((0, 2 * GAP), (0, 0), (0, 0)), constant_values=255) for row in rows]
    return np.pad(np.vstack(spaced), ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), constant_values=255)


def header(look: Look, title: str, subtitle: str, width: int) -> Image:
    """What was looked at, at the left; what the network answers, at the right."""
    row = blank(_HEADER, width)
    (label, score), *others = look.ranking
    write(row, title, (0, 20), 18)
    write(row, f"{label}  {score:.1%}", (width, 20), 18, align="right")
    write(row, subtitle, (0, 42), 12, colour=MUTED)
    write(row, "   ".join(f"{name} {part:.1%}" for name, part in others), (width, 42), 12, colour=MUTED, align="right")
    return row


def _frames(look: Look, columns: Sequence[int], cell: tuple[int, int]) -> Image:
    height, width = cell
    row = named(("Input", "time in seconds"), height + 16, LEFT + len(columns) * (width + GAP) - GAP + RIGHT)
    for position, frame in enumerate(columns):
        left = LEFT + position * (width + GAP)
        row[:height, left : left + width] = resized(look.frames[frame], height, width)
        middle = (left + width // 2, height + 13)
        write(row, f"{look.time_s(frame):.2f}", middle, 11, colour=MUTED, align="centre")
    return row
