"""Write files so that neither a crash nor a full disk costs the previous content."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgeact.errors import EdgeactError, StorageError

__all__ = ["atomic_write", "cache_folder", "write_bytes", "write_text"]

_MODE = 0o666  # the kernel applies the umask: reading it from Python means setting it, for all threads


def cache_folder() -> Path:
    """Return the folder for files that edgeact can recreate; the caller creates the folder.

    $EDGEACT_CACHE; else `edgeact` in $XDG_CACHE_HOME, if that path is absolute; else ~/.cache/edgeact.
    """
    if chosen := os.environ.get("EDGEACT_CACHE"):
        return Path(chosen)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))  # the XDG specification has relative paths ignored
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "edgeact"


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; on success fsync it and rename it over `path`, on failure remove it.

    A new file gets the mode 0666 less the umask, as every file does that Python's `open` creates.
    Raises StorageError if the disk is full or not writable; `path` then keeps its previous content.
    """
    target = Path(path)
    temporary = target.parent / f".{target.name}.{secrets.token_hex(8)}.tmp"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    except OSError as error:
        raise StorageError(f"cannot write '{target}': {error.strerror or error}") from error
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and not isinstance(error, EdgeactError):
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


def _sync_folder(folder: Path) -> None:
    """Make the rename durable, if the file system allows opening a folder."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
