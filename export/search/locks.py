"""Locks between processes; the kernel releases them when their holder dies, also by `kill -9`.

`filelock.FileLock` is flock underneath and `filelock.ReadWriteLock` uses SQLite's file locks: a kill leaves nothing to
detect or to clean up.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, ReadWriteLock, Timeout

from edgeact.errors import StorageError

__all__ = ["MachineLock", "is_held", "locked"]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock of `path`; wait as long as it takes.

    The file is created if it does not exist. Raises StorageError if it cannot be.
    """
    with contextlib.ExitStack() as held:
        with _storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(path))
        yield


def is_held(path: Path) -> bool:
    """Return whether a live process holds the exclusive lock of `path`; False if the file does not exist."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


class MachineLock:
    """Shared lock to work on this machine, exclusive lock to time on it.

    A process that waits to time goes before those that come to work, or a busy machine would never be timed on. The
    lock lies in the folder for temporary files and so belongs to this user and this machine: network drives, which
    machines share, do not hold it, and processes with another TMPDIR do not see it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"edgeact-{os.getuid()}"

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Work: no process times on this machine until the block ends."""
        with locked(self._queue):  # released at once: it only keeps the order
            pass
        with contextlib.ExitStack() as held:
            with _storing(self._machine):
                held.enter_context(self._read_write().read_lock())
            yield

    @contextlib.contextmanager
    def timing(self) -> Iterator[None]:
        """Time: no other process or thread works or times on this machine until the block ends."""
        with locked(self._queue), contextlib.ExitStack() as held:
            with _storing(self._machine):
                held.enter_context(self._read_write().write_lock())
            yield

    def _read_write(self) -> ReadWriteLock:
        """Return an instance of its own for each holder: one instance does not make threads wait for each other."""
        return ReadWriteLock(self._machine, is_singleton=False)

    @property
    def _queue(self) -> Path:
        return self._folder / "queue.lock"

    @property
    def _machine(self) -> Path:
        return self._folder / "machine.db"


@contextlib.contextmanager
def _storing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot lock '{path}': {error.strerror or error}; expected a folder on a local drive that is writable"
        ) from error
