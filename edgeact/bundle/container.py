"""The container of a bundle: a ZIP file of stored members in exactly one byte form, so that every byte is checked."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from edgeact.errors import (
    BundleBombError,
    BundlePathError,
    BundleTamperedError,
    BundleTruncatedError,
    StorageError,
)

__all__ = [
    "MAX_MEMBERS",
    "Entry",
    "Placed",
    "Source",
    "Span",
    "Sums",
    "check_entries",
    "chunks",
    "read_entries",
    "sums",
    "write_entries",
]

MAX_MEMBERS = 2000
MAX_FILE_BYTES = 0xFFFFFFFF  # limit of 32-bit ZIP offsets; ZIP64 is not part of the format
MAX_NAME_LENGTH = 200
MAX_DIRECTORY_BYTES = MAX_MEMBERS * (46 + MAX_NAME_LENGTH)
_CHUNK_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_VERSION, _MADE_BY = 20, 3 << 8 | 20  # ZIP 2.0, written on Unix
_FLAGS, _STORED = 0, 0
_TIME, _DATE = 0, 1 << 5 | 1  # 1980-01-01 00:00, the earliest ZIP date
_ATTRIBUTES = 0o100644 << 16


class Entry(NamedTuple):
    """One member as the ZIP directory states it."""

    name: str
    size_bytes: int
    crc32: int


class Placed(NamedTuple):
    """An entry and the offset of its first content byte in the file."""

    entry: Entry
    offset: int


@dataclass(frozen=True)
class Span:
    """A range of bytes in a file on disk."""

    path: Path
    offset: int
    size_bytes: int


Source = bytes | Span


class Sums(NamedTuple):
    """Size and checksums of a source."""

    size_bytes: int
    crc32: int
    sha256: str


def chunks(source: Source) -> Iterator[bytes]:
    """Yield the bytes of `source`, at most 1 MiB at a time; fewer than a Span states if the file became shorter."""
    if isinstance(source, bytes):
        yield source
        return
    remaining = source.size_bytes
    with source.path.open("rb") as handle:
        handle.seek(source.offset)
        while remaining and (chunk := handle.read(min(remaining, _CHUNK_BYTES))):
            remaining -= len(chunk)
            yield chunk


def sums(source: Source) -> Sums:
    """Compute size, CRC-32 and SHA-256 of `source` in one pass."""
    size, crc, digest = 0, 0, hashlib.sha256()
    for chunk in chunks(source):
        size += len(chunk)
        crc = zlib.crc32(chunk, crc)
        digest.update(chunk)
    return Sums(size, crc, digest.hexdigest())


def check_entries(entries: Sequence[Entry]) -> None:
    """Raise BundlePathError for an unsafe name, BundleBombError for duplicate names, too many members or bytes."""
    if len(entries) > MAX_MEMBERS:
        raise BundleBombError(f"a bundle holds at most {MAX_MEMBERS} members, got {len(entries)}")
    seen: set[str] = set()
    for entry in entries:
        if len(entry.name) > MAX_NAME_LENGTH or not _NAME.fullmatch(entry.name):
            raise BundlePathError(
                f"unsafe member name {entry.name[:80]!r}: expected a relative path of letters, digits and ._-/ "
                f"without parts that start with a dot or dash, at most {MAX_NAME_LENGTH} characters"
            )
        if entry.name.lower() in seen:
            raise BundleBombError(f"member name '{entry.name}' appears twice; expected unique names (case is ignored)")
        seen.add(entry.name.lower())
    total = sum(entry.size_bytes + 2 * len(entry.name) + _LOCAL.size + _CENTRAL.size for entry in entries) + _END.size
    if total > MAX_FILE_BYTES:
        raise BundleBombError(f"a bundle takes at most {MAX_FILE_BYTES} bytes, these members take {total}")


def write_entries(handle: BinaryIO, members: Iterable[tuple[Entry, Source]]) -> None:
    """Write the container; the entries must have passed `check_entries`.

    Raises StorageError if a source no longer matches its entry.
    """
    entries = []
    for entry, source in members:
        handle.write(_local_header(entry))
        size, crc = 0, 0
        for chunk in chunks(source):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
            handle.write(chunk)
        if (size, crc) != (entry.size_bytes, entry.crc32):
            raise StorageError(f"the source of member '{entry.name}' changed during the write; try again")
        entries.append(entry)
    handle.write(_directory(entries))


def read_entries(handle: BinaryIO) -> tuple[Placed, ...]:
    """Check the whole container except the members' contents, and return the position of each member.

    Raises BundleTruncatedError, BundleBombError, BundlePathError or BundleTamperedError.
    """
    size = handle.seek(0, os.SEEK_END)
    if size > MAX_FILE_BYTES:
        raise BundleBombError(f"a bundle takes at most {MAX_FILE_BYTES} bytes, this file has {size}")
    if size < _END.size or _read(handle, 0, 4) != _LOCAL_MAGIC:
        raise BundleTruncatedError(f"not a bundle: {size} bytes without the magic number of a bundle")
    tail = _read(handle, size - _END.size, _END.size)
    magic, _, _, _, count, directory_bytes, start, _ = _END.unpack(tail)
    if magic != _END_MAGIC:
        raise BundleTruncatedError("the file does not end like a bundle: the file is truncated, or bytes were appended")
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise BundleBombError(f"a ZIP directory of {directory_bytes} bytes; expected at most {MAX_DIRECTORY_BYTES}")
    if start + directory_bytes + _END.size != size:
        raise BundleBombError(f"the directory claims to end at byte {start + directory_bytes + _END.size} of {size}")
    directory = _read(handle, start, directory_bytes)
    entries, offsets = _parse_directory(directory, count)
    check_entries(entries)
    placed = _place(entries, offsets, start)
    if _directory(entries) != directory + tail:
        raise BundleTamperedError("the ZIP directory is not in canonical form")
    for entry, offset in placed:
        header = _local_header(entry)
        if _read(handle, offset - len(header), len(header)) != header:
            raise BundleTamperedError(f"the header of member '{entry.name}' contradicts the ZIP directory")
    return placed


def _parse_directory(directory: bytes, count: int) -> tuple[list[Entry], list[int]]:
    """Return the entries and the offsets of their headers; refuses every feature that the format excludes."""
    entries, offsets, at = [], [], 0
    for _ in range(count):
        if at + _CENTRAL.size > len(directory):
            raise BundleTruncatedError(f"the ZIP directory ends before the last of its {count} entries")
        fields = _CENTRAL.unpack_from(directory, at)
        magic, _, _, flags, method, _, _, crc, stored, size, name_bytes, extra, comment = fields[:13]
        at += _CENTRAL.size
        name = directory[at : at + name_bytes].decode("latin-1")
        at += name_bytes
        if magic != _CENTRAL_MAGIC:
            raise BundleTamperedError("the ZIP directory is damaged")
        _check_plain(name, flags, method, extra + comment)
        if stored != size:
            raise BundleBombError(
                f"member '{name[:80]}': expected equal sizes, got {stored} stored and {size} original bytes"
            )
        entries.append(Entry(name, size, crc))
        offsets.append(fields[16])
    return entries, offsets


def _check_plain(name: str, flags: int, method: int, extra_bytes: int) -> None:
    if method != _STORED:
        raise BundleBombError(
            f"member '{name[:80]}' is compressed (method {method}); expected method {_STORED} (stored)"
        )
    if flags != _FLAGS or extra_bytes:
        raise BundleTamperedError(f"member '{name[:80]}' has ZIP flags or extra data (flags {flags:#x}); expected none")


def _place(entries: Sequence[Entry], offsets: Sequence[int], end: int) -> tuple[Placed, ...]:
    """Return where each content begins; members must follow each other without gap or overlap up to `end`."""
    placed, at = [], 0
    for entry, offset in zip(entries, offsets, strict=True):
        if offset != at:
            raise BundleBombError(f"member '{entry.name}' starts at byte {offset}, expected {at}: overlap or gap")
        content = at + _LOCAL.size + len(entry.name)
        placed.append(Placed(entry, content))
        at = content + entry.size_bytes
    if at != end:
        raise BundleBombError(f"the members end at byte {at}, expected {end}: their sizes do not add up")
    return tuple(placed)


def _local_header(entry: Entry) -> bytes:
    name = entry.name.encode("ascii")
    common = (_VERSION, _FLAGS, _STORED, _TIME, _DATE, entry.crc32, entry.size_bytes, entry.size_bytes, len(name), 0)
    return _LOCAL.pack(_LOCAL_MAGIC, *common) + name


def _directory(entries: Sequence[Entry]) -> bytes:
    """Return the central directory and the end record."""
    parts, at = [], 0
    for entry in entries:
        name = entry.name.encode("ascii")
        head = (_CENTRAL_MAGIC, _MADE_BY, _VERSION, _FLAGS, _STORED, _TIME, _DATE)
        sizes = (entry.crc32, entry.size_bytes, entry.size_bytes, len(name), 0, 0, 0, 0)
        parts.append(_CENTRAL.pack(*head, *sizes, _ATTRIBUTES, at) + name)
        at += _LOCAL.size + len(name) + entry.size_bytes
    directory = b"".join(parts)
    return directory + _END.pack(_END_MAGIC, 0, 0, len(entries), len(entries), len(directory), at, 0)


def _read(handle: BinaryIO, offset: int, size: int) -> bytes:
    handle.seek(offset)
    data = handle.read(size)
    if len(data) != size:
        raise BundleTruncatedError(f"the file ends at byte {offset + len(data)}, expected {offset + size}")
    return data
