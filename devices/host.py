"""Files and commands of this machine, or of a recorded copy of another machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["Command", "read_bytes", "read_int", "read_text", "run_command"]

Command = Callable[[Sequence[str]], str | None]

_TIMEOUT_S = 10.0


def run_command(command: Sequence[str]) -> str | None:
    """Return the standard output of `command`, or None if it is missing, fails, or takes longer than ten seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def read_bytes(path: Path) -> bytes | None:
    """Return the content of the file, or None if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def read_text(path: Path) -> str | None:
    """Return the text of the file without surrounding white space and NUL bytes, or None if it cannot be read."""
    data = read_bytes(path)
    return None if data is None else data.decode("utf-8", "replace").strip().strip("\0").strip()


def read_int(path: Path) -> int | None:
    """Return the integer in the file, or None if it cannot be read or contains none."""
    try:
        return int(read_text(path) or "")
    except ValueError:
        return None
