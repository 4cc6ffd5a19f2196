"""The format does not change by accident: committed files must be read, and written again byte for byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from edgeact.bundle import Manifest, open_bundle
from tests.bundle import making

RENEW = "a deliberate change of the format: raise FORMAT_VERSION, say so in docs/format.md, run tests.bundle.making"
SHA256 = "c2df9c17342ed803d119c97a3305a547a8443f28c2af757ebd222c373d24b1a4"


def test_the_committed_bundle_is_read() -> None:
    path = making.GOLDEN / "bundle-1.0.edgeact"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    bundle = open_bundle(path)
    assert bundle.measurements is None
    assert bundle.manifest.model_dump(exclude={"members", "format_version"}) == making.draft().model_dump()
    for name, (_, content) in making.MEMBERS.items():
        assert bundle.read(name) == content


def test_committed_measurements_are_read() -> None:
    assert open_bundle(making.GOLDEN / "measured-1.0.edgeact").measurements == making.measurements()


def test_the_writer_makes_the_committed_bytes(tmp_path: Path) -> None:
    made = making.make(tmp_path / "a.edgeact", measured=False).path.read_bytes()
    assert hashlib.sha256(made).hexdigest() == SHA256, RENEW


def test_the_schema_is_the_committed_one() -> None:
    committed = json.loads((making.GOLDEN / "manifest.schema.json").read_text(encoding="utf-8"))
    assert Manifest.model_json_schema() == committed, RENEW
