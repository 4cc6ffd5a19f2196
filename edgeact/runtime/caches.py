"""What the runtime keeps between starts: engines and kernels compiled on this machine.

Engines are executable code. They are kept in a folder that only the user can enter, under a key of everything they
depend on, and a file is used only if its digest is in the user's list of vouched digests.
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
    """Create `path`, accessible to this user only, and return it; raises StorageError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise StorageError(f"cannot create the cache folder '{path}': {error.strerror or error}") from error
    return path


def key_digest(key: Mapping[str, str]) -> str:
    """Return the SHA-256 of a key, independent of the order of its entries."""
    return hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()


class CodeCache:
    """Machine code compiled on this machine, by what it depends on; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self, key: Mapping[str, str]) -> bytes | None:
        """Return the code that this user wrote under `key` on this machine, or None."""
        if self._folder is None:
            return None
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if is_vouched(hashlib.sha256(data).hexdigest()):
            return data
        log.warning("ignoring %s: this user did not write the file on this machine", path)
        return None

    def write(self, key: Mapping[str, str], data: bytes) -> None:
        """Keep `data` under `key` and vouch for it; raises StorageError."""
        if self._folder is None:
            return
        private_folder(self._folder)
        write_bytes(self._path(key), data)
        vouch(hashlib.sha256(data).hexdigest())

    def keep(self, key: Mapping[str, str], data: bytes) -> None:
        """Write `data` if possible; a full disk costs time at the next start, but not this result."""
        try:
            self.write(key, data)
        except StorageError as error:
            log.warning("compiled code is not kept: %s", error)

    def open_or_build(
        self, key: Mapping[str, str], build: Callable[[], bytes], open_code: Callable[[bytes], Opened]
    ) -> Opened:
        """Open the code kept under `key`; build it first if none is kept, or if it no longer opens.

        Of several processes, one builds while the others wait.
        """
        with self._lock(key):
            if (kept := self.read(key)) is not None:
                try:
                    return open_code(kept)
                except DeviceError as error:
                    log.warning("a kept engine no longer opens and is built again: %s", error)
            built = build()
            opened = open_code(built)
            self.keep(key, built)
            return opened

    def _path(self, key: Mapping[str, str]) -> Path:
        return (self._folder or Path()) / f"{key_digest(key)}.bin"

    @contextlib.contextmanager
    def _lock(self, key: Mapping[str, str]) -> Iterator[None]:
        """Hold the lock of `key`; nothing is locked if the folder is not writable, because nothing is shared then."""
        from filelock import FileLock  # loads asyncio, and only backends that compile code need a lock

        with contextlib.ExitStack() as stack:
            if self._folder is not None:
                with contextlib.suppress(StorageError, OSError):
                    private_folder(self._folder)
                    stack.enter_context(FileLock(self._path(key).with_suffix(".lock")))
            yield
