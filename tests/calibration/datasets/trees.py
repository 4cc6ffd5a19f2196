"""Make small folders of real videos for the tests of the loaders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgeact.video import write_video


def put_videos(root: Path, names: Iterable[str]) -> None:
    """Write a tiny MPEG-4 video under each name; the decoder reads the content, so that `.avi` names work as well."""
    made = root / "made.mp4"
    write_video(made, [np.full((16, 16, 3), 10 * shade, np.uint8) for shade in range(4)], 10.0)
    data = made.read_bytes()
    made.unlink()
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def put_text(path: Path, lines: Iterable[str], newline: str = "\n") -> None:
    """Write a list file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + newline for line in lines).encode())
