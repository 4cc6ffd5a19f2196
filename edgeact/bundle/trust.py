"""Trust in engines: an engine is executable code, opened only when this user built it here or says so."""

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
    """Remember that this user built the engine with this digest on this machine.

    Raises StorageError where that cannot be stored, UntrustedEngineError where others could change the ledger.
    """
    entry = _entry(sha256)
    try:
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_ledger(entry.parent)
        entry.touch(mode=0o600)
    except OSError as error:
        raise StorageError(f"cannot write '{entry}': {error.strerror or error}; set EDGEACT_CACHE") from error


def is_vouched(sha256: str) -> bool:
    """Whether `vouch` was called for this digest; raises UntrustedEngineError where others could have done it."""
    entry = _entry(sha256)
    try:
        _check_ledger(entry.parent)
    except OSError:
        return False
    return entry.is_file()


def require_trust(bundle: Bundle, artifact: Artifact, trust_engines: bool) -> None:
    """Pass where `artifact` is no engine, or its engine is trusted or vouched for; else raise UntrustedEngineError."""
    if not artifact.is_engine or trust_engines:
        return
    digests = {member.path: member.sha256 for member in bundle.manifest.members}
    strangers = [path for path in artifact.members if not is_vouched(digests[path])]
    if strangers:
        raise UntrustedEngineError(
            f"'{strangers[0]}' in '{bundle.path}' is an engine, that is executable code, and was not built by you on "
            "this machine; use another artifact, which is rebuilt here, or say that you trust it: trust_engines=True"
        )


def _entry(sha256: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UsageError(f"expected a SHA-256 of 64 lower-case hex digits, got {sha256[:80]!r}")
    return cache_folder() / "vouched" / sha256


def _check_ledger(folder: Path) -> None:
    """Refuse a ledger that another user could have written; OSError where there is none."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UntrustedEngineError(f"'{folder}' must be a folder, not a link or file; remove it")
    if sys.platform != "win32" and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        raise UntrustedEngineError(
            f"'{folder}' must belong to you and be writable by you alone "
            f"(owner {found.st_uid}, mode {stat.S_IMODE(found.st_mode):o}); run: chmod 700, or remove it"
        )
