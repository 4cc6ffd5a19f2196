"""Run commands in fresh processes and measure them from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeact.errors import EdgeactError

__all__ = ["ROOT", "ChildRun", "run_child"]

ROOT = Path(__file__).resolve().parents[2]
_LAUNCHER = Path(__file__).with_name("launch.py")
_LAST_LINES = 12


@dataclass(frozen=True)
class ChildRun:
    """Wall time, peak memory and output of a process."""

    wall_s: float
    peak_bytes: int
    """Largest resident memory of the process or of its children."""
    output: str
    """Standard output of the process."""


def run_child(command: Sequence[str | Path], *, cores: int, environment: Mapping[str, str] | None = None) -> ChildRun:
    """Run `command` in the root of the repository on `cores` cores, with the variables of `environment` as well.

    Raises EdgeactError if the command fails.
    """
    variables = {**os.environ, "OMP_NUM_THREADS": str(cores), **(environment or {})}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        launched = [sys.executable, "-I", "-S", _LAUNCHER, result, str(cores), *command]
        done = subprocess.run(launched, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-_LAST_LINES:])
            raise EdgeactError(f"'{' '.join(map(str, command))}' ended with exit code {done.returncode}:\n{tail}")
        measured = json.loads(result.read_text(encoding="utf-8"))
    return ChildRun(measured["wall_s"], measured["peak_bytes"], done.stdout)
