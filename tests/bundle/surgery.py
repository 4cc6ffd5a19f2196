"""Cutting bundles open: finding headers, patching fields, putting members together without the writer's checks."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any, Literal

from edgeact.bundle.container import Entry, write_entries

Field = Literal["flags", "method", "crc32", "stored", "size", "extra", "comment", "offset"]

_FORMAT: dict[Field, str] = {
    "flags": "<H",
    "method": "<H",
    "crc32": "<I",
    "stored": "<I",
    "size": "<I",
    "extra": "<H",
    "comment": "<H",
    "offset": "<I",
}
_CENTRAL: dict[Field, int] = {
    "flags": 8,
    "method": 10,
    "crc32": 16,
    "stored": 20,
    "size": 24,
    "extra": 30,
    "comment": 32,
    "offset": 42,
}
_LOCAL: dict[Field, int] = {"flags": 6, "method": 8, "crc32": 14, "stored": 18, "size": 22, "extra": 28}


def headers(data: bytes) -> dict[str, tuple[int, int]]:
    """Member name -> offsets of its local header and of its entry in the directory."""
    count, _, at = struct.unpack("<HII", data[-12:-2])
    positions = {}
    for _ in range(count):
        length, extra, comment = struct.unpack_from("<HHH", data, at + 28)
        name = data[at + 46 : at + 46 + length].decode()
        positions[name] = (struct.unpack_from("<I", data, at + 42)[0], at)
        at += 46 + length + extra + comment
    return positions


def patch(data: bytes, member: str, field: Field, value: int) -> bytes:
    """Return `data` with one field changed in both headers of a member (`comment` and `offset`: in the directory)."""
    local, central = headers(data)[member]
    changed = bytearray(data)
    struct.pack_into(_FORMAT[field], changed, central + _CENTRAL[field], value)
    if field in _LOCAL:
        struct.pack_into(_FORMAT[field], changed, local + _LOCAL[field], value)
    return bytes(changed)


def members(data: bytes) -> dict[str, bytes]:
    """Every member's bytes, in the order of the file."""
    return {name: _content(data, local) for name, (local, _) in headers(data).items()}


def container(contents: dict[str, bytes]) -> bytes:
    """A well-formed container of these members, whatever they hold."""
    handle = io.BytesIO()
    write_entries(handle, ((Entry(name, len(data), zlib.crc32(data)), data) for name, data in contents.items()))
    return handle.getvalue()


def canonical(document: Any) -> bytes:
    """Canonical JSON, written independently of the reader."""
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _content(data: bytes, local: int) -> bytes:
    size, length = struct.unpack_from("<IH", data, local + 22)
    start = local + 30 + int(length)
    return data[start : start + int(size)]
