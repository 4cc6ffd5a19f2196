"""Results that all worker processes of a test run share: computed by the first that needs one, read by the others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

__all__ = ["FOLDER_VARIABLE", "shared_bytes"]

FOLDER_VARIABLE = "EDGEACT_TESTS_SHARED"
"""Environment variable with the folder of this run; tests/conftest.py sets it, worker processes inherit it."""


def shared_bytes(key: str, compute: Callable[[], bytes]) -> bytes:
    """Return the bytes stored under `key`, or compute and store them; concurrent callers wait for the first."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        return compute()
    path = Path(folder) / hashlib.sha256(key.encode()).hexdigest()
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            path.write_bytes(compute())
        return path.read_bytes()
