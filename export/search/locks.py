"""Locks between processes that the kernel gives back when their holder dies, however it dies.

`flock` and no lock file with a process number in it: after `kill -9` nothing is left to find out about or to clean up.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgeact.errors import StorageError

__all__ = ["MachineLock", "is_held", "locked"]


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of `path`, alone or with others who share it; waits as long as it takes.

    The file is made where it is not there and stays. StorageError where it cannot be.
    """
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody who is alive holds the lock of `path`; a file that is not there is held by nobody."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StorageError(f"cannot lock '{path}': {error.strerror or error}; choose another place") from error


class MachineLock:
    """Who works on this machine and who times on it: many may work at once, who times is alone.

    One that waits to time goes before those who come to work, or a busy machine would never be timed on. The lock is
    one of this user's and of this machine's memory: network drives, which several machines share, hold none of it.
    It lies in the folder for temporary files: processes with another TMPDIR do not see it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"edgeact-{os.getuid()}"

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """While it lasts nobody times here."""
        with locked(self._queue):  # left at once: it only keeps the order
            pass
        with locked(self._machine, shared=True):
            yield

    @contextlib.contextmanager
    def timing(self) -> Iterator[None]:
        """While it lasts nobody else works or times here; returns when all others are through."""
        with locked(self._queue), locked(self._machine):
            yield

    @property
    def _queue(self) -> Path:
        return self._folder / "queue.lock"

    @property
    def _machine(self) -> Path:
        return self._folder / "machine.lock"
