"""Opening a bundle: everything is checked before anything is used, and nothing is executed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeact.bundle import canonical
from edgeact.bundle.container import Entry, Placed, Span, chunks, read_entries, sums
from edgeact.bundle.manifest import FORMAT_VERSION, Manifest, Member
from edgeact.errors import (
    BundleBombError,
    BundleError,
    BundleSchemaError,
    BundleTamperedError,
    BundleTruncatedError,
    MissingFileError,
    UnknownNameError,
    UsageError,
)

if TYPE_CHECKING:
    from edgeact.records import Measurements

__all__ = ["MANIFEST", "MAX_JSON_BYTES", "MEASUREMENTS", "Bundle", "open_bundle"]

MANIFEST = "manifest.json"
MEASUREMENTS = "measurements.json"
MAX_JSON_BYTES = 16 << 20


@dataclass(frozen=True)
class Bundle:
    """A bundle whose container, manifest and members' SHA-256 were verified when it was opened.

    Keeps no open file and no member in memory.
    """

    path: Path
    manifest: Manifest
    measurements: Measurements | None
    digest: str
    """SHA-256 of the manifest member: identifies the bundle, independent of its measurements."""
    spans: Mapping[str, Span] = field(repr=False)
    """Position of each member in the file: the manifest, then all that it lists."""

    def __fspath__(self) -> str:
        """Return the path of the file, so that a bundle can be passed wherever its path can."""
        return os.fspath(self.path)

    def read(self, member: str) -> bytes:
        """Return the bytes of one member, owned by the caller; they are hashed again, as the file may have changed.

        Raises UnknownNameError, BundleTamperedError, or UsageError if the file cannot be read.
        """
        listed = {each.path: each for each in self.manifest.members}.get(member)
        if listed is None:
            raise UnknownNameError("member", member, (each.path for each in self.manifest.members))
        try:
            data = b"".join(chunks(self.spans[member]))
        except OSError as error:
            kind = MissingFileError if isinstance(error, FileNotFoundError) else UsageError
            raise kind(f"cannot read '{self.path}': {error.strerror or error}") from error
        if hashlib.sha256(data).hexdigest() != listed.sha256:
            raise BundleTamperedError(f"member '{member}' of '{self.path}' changed since it was opened; open it again")
        return data


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Check the whole bundle at `path` (container, manifest, SHA-256 of every member) and return its description.

    Takes one sequential pass over the file and at most a few MiB of memory beside the manifest.
    Raises UsageError without a readable file, else the child of BundleError that names the defect.
    """
    file = Path(path)
    if file.is_dir():
        raise UsageError(f"'{file}' is a folder; expected a bundle made by 'edgeact export'")
    if not file.is_file():
        raise MissingFileError(f"there is no file '{file}'; expected a bundle made by 'edgeact export'")
    try:
        with file.open("rb") as handle:
            placed = read_entries(handle)
        return _open_verified(file, placed)
    except BundleError as error:
        raise type(error)(f"'{file}' is not usable: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read '{file}': {error.strerror or error}") from error


def _open_verified(file: Path, placed: Sequence[Placed]) -> Bundle:
    if not placed or placed[0].entry.name != MANIFEST:
        raise BundleSchemaError(f"a ZIP file but not a bundle: expected {MANIFEST} as first member")
    data = _read_json(file, placed[0])
    document = canonical.parse(data, MANIFEST)
    manifest = canonical.validate(Manifest, document, "format_version", FORMAT_VERSION)
    rest = list(placed[1:])
    measured = rest.pop() if rest and rest[-1].entry.name == MEASUREMENTS else None
    _check_listing(manifest.members, [place.entry for place in rest])
    spans = {place.entry.name: _span(file, place) for place in (placed[0], *rest)}
    for member, place in zip(manifest.members, rest, strict=True):
        _check_content(member, place.entry, spans[member.path])
    measurements = _parse_measurements(_read_json(file, measured)) if measured else None
    return Bundle(file, manifest, measurements, hashlib.sha256(data).hexdigest(), spans)


def _span(file: Path, place: Placed) -> Span:
    return Span(file, place.offset, place.entry.size_bytes)


def _read_json(file: Path, place: Placed) -> bytes:
    if place.entry.size_bytes > MAX_JSON_BYTES:
        raise BundleBombError(
            f"{place.entry.name} takes {place.entry.size_bytes} bytes, expected at most {MAX_JSON_BYTES}"
        )
    data = b"".join(chunks(_span(file, place)))
    if sums(data).crc32 != place.entry.crc32:
        raise BundleTamperedError(f"the checksum of {place.entry.name} is wrong; copy or export the bundle again")
    return data


def _check_listing(members: Sequence[Member], entries: Sequence[Entry]) -> None:
    """Check that file and manifest have the same members with the same sizes in the same order."""
    listed = {member.path: member.size_bytes for member in members}
    stored = {entry.name: entry.size_bytes for entry in entries}
    if extra := stored.keys() - listed.keys():
        raise BundleTamperedError(f"members {sorted(extra)[:5]} are not listed in the manifest")
    if missing := listed.keys() - stored.keys():
        raise BundleTruncatedError(f"members {sorted(missing)[:5]} are listed in the manifest but not in the file")
    for path, size in listed.items():
        if size != stored[path]:
            raise BundleBombError(f"member '{path}' takes {stored[path]} bytes, the manifest says {size}")
    if list(listed) != list(stored):
        raise BundleTamperedError("the members are not in the manifest's order")


def _check_content(member: Member, entry: Entry, span: Span) -> None:
    actual = sums(span)
    if actual.size_bytes != member.size_bytes:
        raise BundleTruncatedError(
            f"member '{member.path}' ends after {actual.size_bytes} of {member.size_bytes} bytes"
        )
    if actual.sha256 != member.sha256:
        raise BundleTamperedError(
            f"member '{member.path}' has SHA-256 {actual.sha256[:12]}..., the manifest says {member.sha256[:12]}...; "
            "copy or export the bundle again"
        )
    if actual.crc32 != entry.crc32:
        raise BundleTamperedError(f"the checksum of member '{member.path}' in the ZIP directory is wrong")


def _parse_measurements(data: bytes) -> Measurements:
    from edgeact.records import SCHEMA_VERSION, Measurements  # not before they are read: every import counts on a board

    envelope = canonical.parse(data, MEASUREMENTS)
    record = envelope.get("record")
    if envelope.keys() != {"record", "sha256"} or not isinstance(record, dict):
        raise BundleSchemaError(f"{MEASUREMENTS}: expected 'record' (an object) and 'sha256', got {sorted(envelope)}")
    if hashlib.sha256(canonical.encode(record)).hexdigest() != envelope["sha256"]:
        raise BundleTamperedError(f"{MEASUREMENTS}: the record does not have the stated SHA-256; measure again")
    return canonical.validate(Measurements, record, "schema_version", SCHEMA_VERSION)
