"""Results of self-checks, kept by everything that they depend on: bundle, machine, backend and versions.

A result is data, never code. A cache that cannot be read or written costs another check and is no error.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edgeact
from edgeact.errors import EdgeactError, StorageError
from edgeact.runtime.backends import Backend
from edgeact.runtime.caches import key_digest
from edgeact.self_check_results import SelfCheck
from edgeact.storage import cache_folder, write_text

__all__ = ["OpenedWith", "read_check", "write_check"]

log = logging.getLogger("edgeact.runtime")

_SUFFIXES = ("_MAX_CPU_ISA", "_NATIVE_ISA")  # variables by which oneDNN and the native engine limit instruction sets


@dataclass(frozen=True)
class OpenedWith:
    """An artifact of a bundle, and how it is opened."""

    digest: str
    """Digest of the bundle."""
    artifact: str
    backend: Backend
    device: str | None
    threads: int | None


def read_check(opened: OpenedWith) -> SelfCheck | None:
    """Return the result of an earlier check under the same conditions, or None."""
    with contextlib.suppress(OSError, ValueError, ImportError, EdgeactError):  # a broken library fails to open, too
        kept = SelfCheck.model_validate_json(_path(opened).read_bytes())
        if (kept.artifact, kept.backend) == (opened.artifact, opened.backend.name):
            return kept
    return None


def write_check(opened: OpenedWith, result: SelfCheck) -> None:
    """Keep a result, atomically, if the cache is writable."""
    try:
        write_text(_path(opened), result.model_dump_json())
    except StorageError as error:  # the next load checks again, this load continues
        log.info("the result of the self-check is not kept: %s", error)


def _path(opened: OpenedWith) -> Path:
    from edgeact.devices import machine_identity  # here, because every import counts on a board

    backend = opened.backend
    variables = {name: value for name, value in os.environ.items() if name.endswith(_SUFFIXES)}
    key = {
        "bundle": opened.digest,
        "artifact": opened.artifact,
        "device": str(opened.device),
        "threads": str(opened.threads),
        "backend": f"{backend.name} {backend.version()}",
        "edgeact": edgeact.__version__,
        "numpy": np.__version__,
        "opencv": _opencv(),
        **{f"fact {name}": value for name, value in backend.facts().items()},
        **{f"machine {name}": value for name, value in machine_identity().items()},
        **{f"variable {name}": value for name, value in variables.items()},
    }
    return cache_folder() / "checks" / f"{key_digest(key)}.json"


def _opencv() -> str:
    """Identify the installed OpenCV without importing it; the distribution's has no package metadata."""
    spec = importlib.util.find_spec("cv2")
    if spec is None or spec.origin is None:
        return "none"
    with contextlib.suppress(OSError):
        status = os.stat(spec.origin)
        return f"{spec.origin} {status.st_size} {status.st_mtime_ns}"
    return spec.origin
