"""The container: every ambiguous or oversized ZIP file is refused, each by a specific error."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.bundle import Bundle, container
from edgeact.errors import (
    BundleBombError,
    BundleError,
    BundlePathError,
    BundleTamperedError,
    BundleTruncatedError,
)
from tests.bundle import making
from tests.bundle.surgery import headers, patch
from tests.bundle.surgery import members as members_of
from tests.messages import names

Opener = Callable[[bytes], Bundle]

CLIP = "golden/clip.mp4"


def _zip(contents: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """What another program's ZIP writer makes of the members."""
    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w", method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return handle.getvalue()


def test_a_bundle_is_a_plain_zip_file(valid: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "manifest.json"
        assert archive.namelist()[-1] == "measurements.json"
        assert {name: archive.read(name) for name in making.MEMBERS} == {
            name: content for name, (_, content) in making.MEMBERS.items()
        }


@given(data=st.data())
@settings(max_examples=200)
def test_a_bundle_cut_anywhere_is_refused(valid: bytes, open_bytes: Opener, data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(valid) - 1))
    with pytest.raises(BundleError):
        open_bytes(valid[:kept])


def test_a_bundle_cut_at_any_border_is_called_truncated(valid: bytes, open_bytes: Opener) -> None:
    borders = {at + step for pair in headers(valid).values() for at in pair for step in (-1, 0, 1, 4, 30, 46)}
    for kept in sorted(borders | {0, 1, 3, 4, 21, 22, 23, len(valid) - 22, len(valid) - 1}):
        if 0 <= kept < len(valid):
            with pytest.raises(BundleTruncatedError):
                open_bytes(valid[:kept])


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_byte_of_a_bundle_is_checked(valid: bytes, open_bytes: Opener, flip: int) -> None:
    """Every byte of every header, and every eleventh of the contents."""
    tail = struct.unpack("<I", valid[-6:-2])[0]
    in_headers = {at for local, _ in headers(valid).values() for at in range(local, local + 60)}
    for at in sorted(in_headers | set(range(tail, len(valid))) | set(range(0, tail, 11))):
        changed = bytearray(valid)
        changed[at] ^= flip
        with pytest.raises(BundleError):
            open_bytes(bytes(changed))


@given(data=st.data())
@settings(max_examples=200)
def test_a_byte_more_or_less_anywhere_is_refused(valid: bytes, open_bytes: Opener, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(valid) - 1))
    inserted = data.draw(st.binary(max_size=3))
    removed = data.draw(st.integers(0 if inserted else 1, 3))
    changed = valid[:at] + inserted + valid[at + removed :]
    if changed != valid:
        with pytest.raises(BundleError):
            open_bytes(changed)


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_any_bytes_are_refused_without_a_crash(open_bytes: Opener, data: bytes) -> None:
    for start in (b"", b"PK\x03\x04"):
        with pytest.raises(BundleError):
            open_bytes(start + data)


@pytest.mark.parametrize(
    "name",
    [
        "../../../passwd",
        "golden/../clip4",
        "/golden/clip.mp",
        "golden\\clip.mp4",
        "C:/dir/clip.mp4",
        "golden/clip\0mp4",
        "golden/.lip.mp4",
        "./lden/clip.mp4",
        "golden//lip.mp4",
        "golden/clip.mp/",
        "-olden/clip.mp4",
        "golden/clip.mp\n",
        "golden/clip mp4",
        "gölden/cl.mp4\x7f",
    ],
)
def test_unsafe_names_are_refused(valid: bytes, open_bytes: Opener, name: str) -> None:
    same_length = name.encode().ljust(len(CLIP), b"x")
    assert len(same_length) == len(CLIP)
    with pytest.raises(BundlePathError, check=names("unsafe member name")):
        open_bytes(valid.replace(CLIP.encode(), same_length))


@pytest.mark.parametrize("name", ["graphs/model-fp32.onnx", "GRAPHS/Model-fp32.onnx"])
def test_duplicate_names_are_refused(valid: bytes, open_bytes: Opener, name: str) -> None:
    """Spellings that a file system could treat as equal count as duplicates."""
    with pytest.raises(BundleBombError, check=names("twice")):
        open_bytes(valid.replace(b"graphs/model-int8.onnx", name.encode()))


def test_compressed_members_are_refused(open_bytes: Opener, valid: bytes) -> None:
    bomb = _zip({**members_of(valid), "graphs/zeros.onnx": bytes(20_000_000)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    with pytest.raises(BundleBombError, check=names("compressed")):
        open_bytes(bomb)


def test_sizes_that_do_not_add_up_are_refused(valid: bytes, open_bytes: Opener) -> None:
    size = len(members_of(valid)[CLIP])
    for hostile in (
        patch(valid, CLIP, "size", 0xFFFFFFF0),
        patch(patch(valid, CLIP, "size", size + 1), CLIP, "stored", size + 1),
        patch(patch(valid, CLIP, "size", size - 1), CLIP, "stored", size - 1),
        patch(patch(valid, "measurements.json", "size", 5), "measurements.json", "stored", 5),
        patch(patch(valid, CLIP, "size", 0xFFFFFFFF), CLIP, "stored", 0xFFFFFFFF),
    ):
        with pytest.raises(BundleBombError):
            open_bytes(hostile)


def test_a_size_other_than_the_stored_size_is_refused(valid: bytes, open_bytes: Opener) -> None:
    with pytest.raises(BundleBombError, check=names("got 1000 stored and 1024 original bytes")):
        open_bytes(patch(valid, CLIP, "stored", 1000))


def test_an_endless_directory_is_refused_before_it_is_read(valid: bytes, open_bytes: Opener) -> None:
    start = struct.unpack("<I", valid[-6:-2])[0]
    padding = 600_000
    end = valid[-22:-10] + struct.pack("<I", len(valid) - 22 - start + padding) + valid[-6:]
    with pytest.raises(BundleBombError, check=names("a ZIP directory of")):
        open_bytes(valid[:-22] + bytes(padding) + end)


def test_overlapping_members_are_refused(valid: bytes, open_bytes: Opener) -> None:
    other, _ = headers(valid)["graphs/model-fp32.onnx"]
    with pytest.raises(BundleBombError, check=names("overlap or gap")):
        open_bytes(patch(valid, CLIP, "offset", other))


def test_too_many_members_are_refused(open_bytes: Opener) -> None:
    with pytest.raises(BundleBombError, check=names("at most 2000")):
        open_bytes(_zip({f"m{index}": b"" for index in range(container.MAX_MEMBERS + 1)}))


def test_a_file_larger_than_four_gib_is_refused(open_bytes: Opener, valid: bytes) -> None:
    path = open_bytes(valid).path
    with path.open("r+b") as handle:
        handle.truncate(1 << 33)  # sparse
    with path.open("rb") as handle, pytest.raises(BundleBombError, check=names("at most")):
        container.read_entries(handle)


@pytest.mark.parametrize(("field", "value"), [("flags", 1), ("flags", 8), ("extra", 4), ("comment", 4)])
def test_flags_extra_data_and_comments_are_refused(valid: bytes, open_bytes: Opener, field: str, value: int) -> None:
    with pytest.raises(BundleTamperedError, check=names("flags or extra data")):
        open_bytes(patch(valid, CLIP, field, value))  # type: ignore[arg-type]


def test_bytes_around_a_bundle_are_refused(valid: bytes, open_bytes: Opener) -> None:
    for hostile in (valid + b"\0", b"#!/bin/sh\n" + valid, valid + valid):
        with pytest.raises(BundleError):
            open_bytes(hostile)
    commented = valid[:-2] + struct.pack("<H", 5) + b"hello"
    with pytest.raises(BundleTruncatedError, check=names("appended")):
        open_bytes(commented)


def test_headers_that_contradict_each_other_are_refused(valid: bytes, open_bytes: Opener) -> None:
    local, _ = headers(valid)[CLIP]
    changed = bytearray(valid)
    changed[local + 30 : local + 30 + len(CLIP)] = b"golden/evil.mp4"
    with pytest.raises(BundleTamperedError, check=names("contradicts")):
        open_bytes(bytes(changed))


def test_another_writers_zip_is_refused(valid: bytes, open_bytes: Opener) -> None:
    """Same members, other time stamps: a content has exactly one byte form."""
    with pytest.raises(BundleTamperedError, check=names("canonical form")):
        open_bytes(_zip(members_of(valid)))


def test_a_wrong_zip_checksum_is_refused(valid: bytes, open_bytes: Opener) -> None:
    for name in ("manifest.json", CLIP, "measurements.json"):
        with pytest.raises(BundleTamperedError, check=names("checksum")):
            open_bytes(patch(valid, name, "crc32", 7))
