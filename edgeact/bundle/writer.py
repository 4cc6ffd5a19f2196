"""Writing bundles: the same inputs give the same bytes, and a failure leaves what was there before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from edgeact.bundle import canonical
from edgeact.bundle.container import Entry, Source, Span, check_entries, sums, write_entries
from edgeact.bundle.manifest import FORMAT_VERSION, BundleDraft, Manifest, Member, Role
from edgeact.bundle.reader import MANIFEST, MAX_JSON_BYTES, MEASUREMENTS, Bundle, open_bundle
from edgeact.errors import BundleBombError, BundlePathError, BundleSchemaError
from edgeact.records import Measurements
from edgeact.storage import atomic_write

__all__ = ["replace_measurements", "write_bundle"]

Sized = tuple[Entry, Source]


def write_bundle(
    path: str | os.PathLike[str],
    draft: BundleDraft,
    members: Mapping[str, tuple[Role, bytes | Path]],
    measurements: Measurements | None = None,
) -> Bundle:
    """Write `draft` and `members` (name -> role, and the bytes or the file that holds them) and open the result.

    The bytes depend on the arguments' contents only, not on the order of `members`. Large members are streamed.
    Raises BundleSchemaError, BundlePathError or BundleBombError where no reader would take the result, StorageError
    where it cannot be stored; `path` then holds what it held before.
    """
    if reserved := members.keys() & {MANIFEST, MEASUREMENTS}:
        raise BundlePathError(f"member names {sorted(reserved)} belong to the format; choose others")
    listed: list[Member] = []
    contents: list[Sized] = []
    for name in sorted(members):
        role, content = members[name]
        source = content if isinstance(content, bytes) else Span(content, 0, content.stat().st_size)
        found = sums(source)
        listed.append(Member(path=name, size_bytes=found.size_bytes, sha256=found.sha256, role=role))
        contents.append((Entry(name, found.size_bytes, found.crc32), source))
    try:
        manifest = Manifest.model_validate(dict(draft) | {"format_version": FORMAT_VERSION, "members": tuple(listed)})
    except ValidationError as error:
        raise BundleSchemaError(f"this bundle would contradict itself: {error}") from error
    return _write(Path(path), [_json_member(MANIFEST, canonical.encode(manifest)), *contents], measurements)


def replace_measurements(path: str | os.PathLike[str], measurements: Measurements | None) -> Bundle:
    """Put `measurements` (None: none) into the bundle at `path` in one step; every other member stays as it is.

    Raises what `open_bundle` raises, and StorageError; `path` then holds what it held before.
    """
    bundle = open_bundle(path)
    kept: list[Sized] = [(Entry(name, *sums(span)[:2]), span) for name, span in bundle.spans.items()]
    return _write(bundle.path, kept, measurements)


def _write(path: Path, members: Sequence[Sized], measurements: Measurements | None) -> Bundle:
    """Write the container of `members`, the manifest first and the measurements last."""
    whole = [*members]
    if measurements is not None:
        whole.append(_json_member(MEASUREMENTS, _envelope(measurements)))
    check_entries([entry for entry, _ in whole])
    with atomic_write(path) as handle:
        write_entries(handle, whole)
    return open_bundle(path)


def _json_member(name: str, data: bytes) -> Sized:
    if len(data) > MAX_JSON_BYTES:
        raise BundleBombError(f"{name} would take {len(data)} bytes, a bundle allows {MAX_JSON_BYTES}")
    return Entry(name, *sums(data)[:2]), data


def _envelope(measurements: Measurements) -> bytes:
    record = measurements.model_dump(mode="json")
    return canonical.encode({"record": record, "sha256": hashlib.sha256(canonical.encode(record)).hexdigest()})
