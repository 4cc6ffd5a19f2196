"""Writing files so that neither a crash nor a full disk costs what was there before."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgeact.errors import StorageError

__all__ = ["atomic_write", "cache_folder", "write_bytes", "write_text"]


def cache_folder() -> Path:
    """Where edgeact keeps what it can make again; the caller creates it.

    $EDGEACT_CACHE; else `edgeact` in $XDG_CACHE_HOME, where that is absolute; else ~/.cache/edgeact.
    """
    if own := os.environ.get("EDGEACT_CACHE"):
        return Path(own)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))  # its specification has relative ones ignored
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "edgeact"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; on success fsync it and rename it over `path`, on failure remove it.

    Raises StorageError where the disk is full or not writable; `path` then holds what it held before.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    except OSError as error:
        raise StorageError(f"cannot write '{target}': {error.strerror or error}") from error
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise StorageError(
                f"cannot write '{target}': {error.strerror or error}; free some space or choose another place"
            ) from error
        raise


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file at `path` by `data` in one step."""
    with atomic_write(path) as handle:
        handle.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace the file at `path` by `text` (UTF-8) in one step."""
    write_bytes(path, text.encode("utf-8"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the file system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
