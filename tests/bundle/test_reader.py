"""Opening: manifest, listing and hashes are held against the file before anything is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeact.bundle import Bundle, open_bundle
from edgeact.errors import (
    BundleBombError,
    BundleError,
    BundleSchemaError,
    BundleTamperedError,
    BundleTruncatedError,
    BundleVersionError,
    UnknownNameError,
    UsageError,
)
from tests.bundle import making
from tests.bundle.surgery import canonical, container
from tests.bundle.surgery import members as members_of
from tests.messages import names

Opener = Callable[[bytes], Bundle]
Change = Callable[[dict[str, Any]], object]


def _with_manifest(valid: bytes, change: Change) -> bytes:
    contents = members_of(valid)
    document = json.loads(contents["manifest.json"])
    change(document)
    return container({**contents, "manifest.json": canonical(document)})


def _set(**values: object) -> Change:
    return lambda document: document.update(values)


def _add_unknown(document: dict[str, Any]) -> None:
    document["later"] = {"any": 1}
    document["clip"]["later"] = 2
    document["artifacts"][1]["later"] = [3]


def _newer(**values: object) -> Change:
    """A manifest as a later minor version may write it: unknown fields, and these values."""

    def change(document: dict[str, Any]) -> None:
        _add_unknown(document)
        document.update(format_version="1.7", **values)

    return change


def test_a_bundle_has_its_contents(valid: bytes, open_bytes: Opener) -> None:
    bundle = open_bytes(valid)
    assert bundle.manifest.labels == making.draft().labels
    assert bundle.manifest.clip == making.CLIP
    assert bundle.measurements == making.measurements()
    assert bundle.digest == hashlib.sha256(members_of(valid)["manifest.json"]).hexdigest()
    for name, (_, content) in making.MEMBERS.items():
        assert bundle.read(name) == content


def test_reading_an_unknown_member_names_the_near_ones(valid: bytes, open_bytes: Opener) -> None:
    bundle = open_bytes(valid)
    with pytest.raises(UnknownNameError, check=names("did you mean golden/clip.mp4")):
        bundle.read("golden/clip.mp5")
    with pytest.raises(UnknownNameError):
        bundle.read("manifest.json")


def test_a_member_changed_after_opening_is_refused(valid: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.edgeact"
    path.write_bytes(valid)
    bundle = open_bundle(path)
    path.write_bytes(valid.replace(b"float graph", b"other graph"))
    with pytest.raises(BundleTamperedError, check=names("changed since it was opened")):
        bundle.read("graphs/model-fp32.onnx")
    assert bundle.read("graphs/model-int8.onnx")
    path.unlink()
    with pytest.raises(UsageError, check=names("cannot read")):
        bundle.read("graphs/model-int8.onnx")


def test_no_file_is_a_usage_error(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.edgeact", tmp_path):
        with pytest.raises(UsageError, match=r"there is no file|is a folder"):
            open_bundle(path)


def test_a_member_with_another_content_is_tampered(valid: bytes, open_bytes: Opener) -> None:
    """The ZIP checksums are right, so only the manifest's SHA-256 can tell."""
    contents = members_of(valid)
    contents["engines/sm89.engine"] = contents["engines/sm89.engine"].replace(b"engine code", b"hostile one")
    with pytest.raises(BundleTamperedError, check=names("'engines/sm89.engine' has SHA-256")):
        open_bytes(container(contents))


def test_the_manifest_must_list_the_members_of_the_file(valid: bytes, open_bytes: Opener) -> None:
    contents = members_of(valid)
    measured = contents.pop("measurements.json")
    with pytest.raises(BundleTamperedError, check=names("'zz.bin'", "not listed")):
        open_bytes(container({**contents, "zz.bin": b"", "measurements.json": measured}))
    with pytest.raises(BundleTamperedError, check=names("not listed")):
        open_bytes(container({"manifest.json": contents["manifest.json"], "measurements.json": measured} | contents))
    missing = {name: data for name, data in contents.items() if not name.startswith("engines/")}
    with pytest.raises(BundleTruncatedError, check=names("not in the file")):
        open_bytes(container(missing))
    with pytest.raises(BundleBombError, check=names("takes 1025 bytes, the manifest says 1024")):
        open_bytes(container({**contents, "golden/clip.mp4": contents["golden/clip.mp4"] + b"x"}))
    swapped = dict(sorted(contents.items(), key=lambda item: (item[0] != "manifest.json", item[0][::-1])))
    with pytest.raises(BundleTamperedError, check=names("order")):
        open_bytes(container(swapped))


def test_the_manifest_comes_first(valid: bytes, open_bytes: Opener) -> None:
    contents = members_of(valid)
    manifest = contents.pop("manifest.json")
    for hostile in ({**contents, "manifest.json": manifest}, contents):
        with pytest.raises(BundleSchemaError, check=names("not a bundle")):
            open_bytes(container(hostile))


@pytest.mark.parametrize(("version", "advice"), [("2.0", "update edgeact"), ("0.9", "export the bundle again")])
def test_another_major_version_is_refused_first(valid: bytes, open_bytes: Opener, version: str, advice: str) -> None:
    hostile = container({**members_of(valid), "manifest.json": canonical({"format_version": version})})
    with pytest.raises(BundleVersionError, check=names(version, "is unknown", advice)):
        open_bytes(hostile)


@pytest.mark.parametrize("version", ["", "1", "1.0.0", "1.x", "-1.0", "1.0 ", "٤.٢", None, 1.0, ["1.0"]])
def test_an_invalid_version_is_refused(valid: bytes, open_bytes: Opener, version: object) -> None:
    with pytest.raises(BundleError):
        open_bytes(_with_manifest(valid, _set(format_version=version)))


def test_only_a_newer_minor_version_may_add_fields(valid: bytes, open_bytes: Opener) -> None:
    with pytest.raises(BundleSchemaError, check=names("later")):
        open_bytes(_with_manifest(valid, _add_unknown))
    newer = open_bytes(_with_manifest(valid, _newer()))
    assert newer.manifest.format_version == "1.7"
    assert newer.manifest.artifacts == making.ARTIFACTS
    with pytest.raises(BundleSchemaError, check=names("labels")):
        open_bytes(_with_manifest(valid, _newer(labels=[])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(labels=[]), "labels"),
        (_set(labels=["walk"] * 6), "label names must be unique"),
        (_set(labels=["only", "two"]), "golden logits: expected 2, got 6"),
        (_set(preferred=[]), "preferred"),
        (_set(preferred=["int9"]), "preferred must name artifacts"),
        (_set(preferred=["int8", "int8"]), "unique"),
        (_set(artifacts=[]), "artifacts"),
        (_set(target=7), "target"),
        (lambda document: document.pop("clip"), "clip"),
        (lambda document: document["clip"].update(fps=-1.0), "clip.fps"),
        (lambda document: document["clip"].update(clip_frames=16), "golden frames_shape"),
        (lambda document: document["artifacts"][0].update(kind="pickle"), "kind"),
        (lambda document: document["artifacts"][0].update(members=["a.onnx"]), "expected all used members in the list"),
        (lambda document: document["artifacts"][0].update(members=["engines/sm89.engine"]), "engine members"),
        (lambda document: document["artifacts"][2].update(kind="onnx"), "engine members"),
        (lambda document: document["artifacts"][2].update(members=["graphs/model-int8.onnx"]), "engine members"),
        (lambda document: document["golden"].update(video="other.mp4"), "expected all used members in the list"),
        (lambda document: document["members"][0].update(sha256="0" * 63), "sha256"),
        (lambda document: document["members"][0].update(size_bytes=-1), "size_bytes"),
        (lambda document: document["members"].append(document["members"][0]), "unique"),
    ],
)
def test_a_violation_of_the_schema_is_named(valid: bytes, open_bytes: Opener, change: Change, message: str) -> None:
    with pytest.raises(BundleSchemaError, check=names(message)):
        open_bytes(_with_manifest(valid, change))


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"format_version": "1.0"}',
        b'{"b":1,"a":1}',
        b'{"a":1,"a":1}',
        b'{"a":NaN}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"a":' + b"9" * 10_000 + b"}",
    ],
    ids=lambda data: repr(data[:16]),
)
def test_a_manifest_that_is_not_canonical_json_is_refused(valid: bytes, open_bytes: Opener, manifest: bytes) -> None:
    with pytest.raises(BundleSchemaError, check=names("canonical")):
        open_bytes(container({**members_of(valid), "manifest.json": manifest}))


def test_a_manifest_beyond_the_limit_is_refused(valid: bytes, open_bytes: Opener) -> None:
    with pytest.raises(BundleBombError, check=names("at most 16777216")):
        open_bytes(container({**members_of(valid), "manifest.json": b" " * ((16 << 20) + 1)}))


def _with_measurements(valid: bytes, change: Change, seal: bool) -> bytes:
    contents = members_of(valid)
    envelope = json.loads(contents["measurements.json"])
    change(envelope)
    if seal:
        envelope["sha256"] = hashlib.sha256(canonical(envelope["record"])).hexdigest()
    return container({**contents, "measurements.json": canonical(envelope)})


def test_measurements_check_themselves(valid: bytes, open_bytes: Opener) -> None:
    def faster(envelope: dict[str, Any]) -> None:
        envelope["record"]["rows"][0]["latency"]["p50_ms"] = 1.0

    with pytest.raises(
        BundleTamperedError, check=names("measurements.json: the record does not have the stated SHA-256")
    ):
        open_bytes(_with_measurements(valid, faster, seal=False))
    assert open_bytes(_with_measurements(valid, faster, seal=True)).measurements is not None
    for change, error in (
        (lambda envelope: envelope["record"].update(rows=3), BundleSchemaError),
        (lambda envelope: envelope["record"].update(later=3), BundleSchemaError),
        (lambda envelope: envelope["record"].update(schema_version="9.0"), BundleVersionError),
    ):
        with pytest.raises(error):
            open_bytes(_with_measurements(valid, change, seal=True))
    for change in (_set(record=[]), _set(more=1), lambda envelope: envelope.pop("record")):
        with pytest.raises(BundleSchemaError, check=names("expected 'record'")):
            open_bytes(_with_measurements(valid, change, seal=False))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, check=names("is a folder; expected a bundle")):
        open_bundle(tmp_path)
