"""What the runtime keeps between starts: engines and compiled kernels built here, and decisions taken here.

Engines are executable code. They live in a folder that only the user can enter, under a key of everything they depend
on, and a file is used only where the user's own list of vouched digests has it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from edgeact.bundle import is_vouched, vouch
from edgeact.errors import DeviceError, StorageError
from edgeact.storage import write_bytes

__all__ = ["CodeCache", "key_digest", "private_folder"]

log = logging.getLogger("edgeact.runtime")

Opened = TypeVar("Opened")


def private_folder(path: Path) -> Path:
    """Make `path`, open to nobody but the user, and return it; raises StorageError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise StorageError(f"cannot make the cache folder '{path}': {error.strerror or error}") from error
    return path


def key_digest(key: Mapping[str, str]) -> str:
    """SHA-256 of a key, whatever the order of its parts."""
    return hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()


class CodeCache:
    """Machine code built on this machine, kept under keys of what it depends on; without a folder it keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self, key: Mapping[str, str]) -> bytes | None:
        """What was written under `key` by this user on this machine, or None."""
        if self._folder is None:
            return None
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if is_vouched(hashlib.sha256(data).hexdigest()):
            return data
        log.warning("%s was not written by this user on this machine and is built anew", path)
        return None

    def write(self, key: Mapping[str, str], data: bytes) -> None:
        """Keep `data` under `key` and vouch for it; raises StorageError."""
        if self._folder is None:
            return
        private_folder(self._folder)
        write_bytes(self._path(key), data)
        vouch(hashlib.sha256(data).hexdigest())

    def keep(self, key: Mapping[str, str], data: bytes) -> None:
        """Write where it is possible; a full disk costs the next start some time, not this one its result."""
        try:
            self.write(key, data)
        except StorageError as error:
            log.warning("what was built is not kept: %s", error)

    def open_or_build(
        self, key: Mapping[str, str], build: Callable[[], bytes], open_code: Callable[[bytes], Opened]
    ) -> Opened:
        """Open what is kept under `key`; where there is nothing, or it does not open any more, build it first."""
        with self._lock(key):
            if (kept := self.read(key)) is not None:
                try:
                    return open_code(kept)
                except DeviceError as error:
                    log.warning("a kept engine does not open any more and is built anew: %s", error)
            built = build()
            opened = open_code(built)
            self.keep(key, built)
            return opened

    def _path(self, key: Mapping[str, str]) -> Path:
        return (self._folder or Path()) / f"{key_digest(key)}.bin"

    @contextlib.contextmanager
    def _lock(self, key: Mapping[str, str]) -> Iterator[None]:
        """Let one process build while the others wait; where the system has no flock, all of them build."""
        try:
            import fcntl
        except ImportError:
            fcntl = None  # type: ignore[assignment]
        with contextlib.ExitStack() as stack:
            if self._folder is not None and fcntl is not None:
                with contextlib.suppress(StorageError, OSError):  # where nothing can be written, nothing is shared
                    private_folder(self._folder)
                    handle = stack.enter_context(self._path(key).with_suffix(".lock").open("w"))
                    fcntl.flock(handle, fcntl.LOCK_EX)
            yield
