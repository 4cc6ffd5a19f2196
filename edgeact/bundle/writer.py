"""Writing bundles: the same inputs give the same bytes, and a failure leaves an existing file unchanged."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from edgeact.bundle import canonical
from edgeact.bundle.container import Entry, Source, Span, check_entries, sums, write_entries
from edgeact.bundle.manifest import FORMAT_VERSION, BundleDraft, Manifest, Member, Role
from edgeact.bundle.reader import MANIFEST, MAX_JSON_BYTES, MEASUREMENTS, Bundle, open_bundle
from edgeact.errors import BundleBombError, BundlePathError, BundleSchemaError
from edgeact.storage import atomic_write

if TYPE_CHECKING:
    from edgeact.records import Measurements

__all__ = ["replace_measurements", "write_bundle"]

Sized = tuple[Entry, Source]


def write_bundle(
    path: str | os.PathLike[str],
    draft: BundleDraft,
    members: Mapping[str, tuple[Role, bytes | Path]],
    measurements: Measurements | None = None,
) -> Bundle:
    """Write `draft` and `members` (name -> role and content, as bytes or as a file) and open the result.

    The result depends only on the contents of the arguments, not on the order of `members`. Files are streamed.
    Raises BundleSchemaError, BundlePathError or BundleBombError if no reader would accept the result, StorageError if
    the file cannot be written; an existing file at `path` is then unchanged.
    """
    if reserved := members.keys() & {MANIFEST, MEASUREMENTS}:
        raise BundlePathError(f"member names {sorted(reserved)} are reserved by the format; choose others")
    listed: list[Member] = []
    contents: list[Sized] = []
    for name in sorted(members):
        role, content = members[name]
        source = content if isinstance(content, bytes) else Span(content, 0, content.stat().st_size)
        actual = sums(source)
        listed.append(Member(path=name, size_bytes=actual.size_bytes, sha256=actual.sha256, role=role))
        contents.append((Entry(name, actual.size_bytes, actual.crc32), source))
    try:
        manifest = Manifest.model_validate(dict(draft) | {"format_version": FORMAT_VERSION, "members": tuple(listed)})
    except ValidationError as error:
        raise BundleSchemaError(f"the manifest is not valid: {error}") from error
    return _write(Path(path), [_json_member(MANIFEST, canonical.encode(manifest)), *contents], measurements)


def replace_measurements(path: str | os.PathLike[str], measurements: Measurements | None) -> Bundle:
    """Replace the measurements of the bundle at `path` atomically (None removes them); other members do not change.

    Raises StorageError and the errors of `open_bundle`; the file is then unchanged.
    """
    bundle = open_bundle(path)
    kept: list[Sized] = [(Entry(name, *sums(span)[:2]), span) for name, span in bundle.spans.items()]
    return _write(bundle.path, kept, measurements)


def _write(path: Path, members: Sequence[Sized], measurements: Measurements | None) -> Bundle:
    """Write the container of `members`, the manifest first and the measurements last."""
    all_members = [*members]
    if measurements is not None:
        all_members.append(_json_member(MEASUREMENTS, _envelope(measurements)))
    check_entries([entry for entry, _ in all_members])
    with atomic_write(path) as handle:
        write_entries(handle, all_members)
    return open_bundle(path)


def _json_member(name: str, data: bytes) -> Sized:
    if len(data) > MAX_JSON_BYTES:
        raise BundleBombError(f"{name} takes {len(data)} bytes, expected at most {MAX_JSON_BYTES}")
    return Entry(name, *sums(data)[:2]), data


def _envelope(measurements: Measurements) -> bytes:
    record = measurements.model_dump(mode="json")
    return canonical.encode({"record": record, "sha256": hashlib.sha256(canonical.encode(record)).hexdigest()})
