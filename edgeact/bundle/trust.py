"""Trust in engines: an engine is executable code, opened only if this user built it on this machine or trusts it."""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

from edgeact.bundle.manifest import Artifact
from edgeact.bundle.reader import Bundle
from edgeact.errors import StorageError, UntrustedEngineError, UsageError
from edgeact.storage import cache_folder

__all__ = ["is_vouched", "require_trust", "vouch"]


def vouch(sha256: str) -> None:
    """Record that this user built the engine with this digest on this machine.

    Raises StorageError if the ledger is not writable, UntrustedEngineError if other users could change the ledger.
    """
    entry = _entry(sha256)
    try:
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_ledger(entry.parent)
        entry.touch(mode=0o600)
    except OSError as error:
        raise StorageError(f"cannot write '{entry}': {error.strerror or error}; set EDGEACT_CACHE") from error


def is_vouched(sha256: str) -> bool:
    """Return whether `vouch` was called for this digest; raises UntrustedEngineError if others could have done that."""
    entry = _entry(sha256)
    try:
        _check_ledger(entry.parent)
    except OSError:
        return False
    return entry.is_file()


def require_trust(bundle: Bundle, artifact: Artifact, trust_engines: bool) -> None:
    """Raise UntrustedEngineError if `artifact` is an engine that is neither trusted nor vouched for."""
    if not artifact.is_engine or trust_engines:
        return
    digests = {member.path: member.sha256 for member in bundle.manifest.members}
    untrusted = [path for path in artifact.members if not is_vouched(digests[path])]
    if untrusted:
        raise UntrustedEngineError(
            f"'{untrusted[0]}' in '{bundle.path}' is an engine, i.e. executable code, and was not built by you on this "
            "machine; use another artifact, which is built on this machine, or trust the bundle: trust_engines=True"
        )


def _entry(sha256: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UsageError(f"expected a SHA-256 of 64 lower-case hex digits, got {sha256[:80]!r}")
    return cache_folder() / "vouched" / sha256


def _check_ledger(folder: Path) -> None:
    """Raise UntrustedEngineError if another user could have written the ledger, OSError if it does not exist."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise UntrustedEngineError(f"'{folder}': expected a folder, got a link or file; remove it")
    if sys.platform != "win32" and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
        raise UntrustedEngineError(
            f"'{folder}': expected a folder that only you can write "
            f"(got owner {status.st_uid}, mode {stat.S_IMODE(status.st_mode):o}); run: chmod 700, or remove it"
        )
