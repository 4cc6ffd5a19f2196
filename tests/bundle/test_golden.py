"""The format does not change by accident: committed files are read, and written again byte for byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from edgeact.bundle import FORMAT_VERSION, Manifest, open_bundle
from tests.bundle import making

RENEW = "a deliberate change of the format: raise FORMAT_VERSION, say so in docs/format.md, run tests.bundle.making"
SHA256 = {
    "1.0": "c2df9c17342ed803d119c97a3305a547a8443f28c2af757ebd222c373d24b1a4",
    "1.1": "157ee850982ee3f728411dcaca0170bd52e98275ca7dcbb67ab6d05ba4d93c32",
    "1.2": "5e78e7f9f533b7b7e90edf1aa362940bce053500deaf179965ab0255cece96de",
    "1.3": "ebb955e7b7f083186b794e821124a99f57ceb979f967518794169dcc5c236750",
}


@pytest.mark.parametrize("version", SHA256)
def test_the_committed_bundle_is_read(version: str) -> None:
    path = making.GOLDEN / f"bundle-{version}.edgeact"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[version]
    bundle = open_bundle(path)
    assert bundle.measurements is None
    assert bundle.manifest.model_dump(exclude={"members", "format_version"}) == making.draft().model_dump()
    for name, (_, content) in making.MEMBERS.items():
        assert bundle.read(name) == content


@pytest.mark.parametrize("version", SHA256)
def test_committed_measurements_are_read(version: str) -> None:
    read = open_bundle(making.GOLDEN / f"measured-{version}.edgeact").measurements
    assert read
    assert read == making.measurements().model_copy(update={"schema_version": read.schema_version})


def test_the_writer_makes_the_committed_bytes(tmp_path: Path) -> None:
    written = making.make(tmp_path / "a.edgeact", measured=False).path.read_bytes()
    assert hashlib.sha256(written).hexdigest() == SHA256[FORMAT_VERSION], RENEW


def test_the_schema_is_the_committed_one() -> None:
    committed = json.loads((making.GOLDEN / "manifest.schema.json").read_text(encoding="utf-8"))
    assert Manifest.model_json_schema() == committed, RENEW
