"""Engines: executable code runs only for whoever built it here or says that he trusts it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from edgeact.bundle import Bundle, is_vouched, require_trust, vouch
from edgeact.errors import StorageError, UntrustedEngineError, UsageError
from tests.bundle import making
from tests.messages import names

DIGEST = hashlib.sha256(making.ENGINE).hexdigest()


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vouched"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return making.make(tmp_path / "a.edgeact")


def test_only_what_was_vouched_for_is_vouched(ledger: Path) -> None:
    assert not is_vouched(DIGEST)
    assert not ledger.exists()
    vouch(DIGEST)
    vouch(DIGEST)
    assert is_vouched(DIGEST)
    assert not is_vouched("0" * 64)
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o700


def test_an_engine_needs_trust(bundle: Bundle, ledger: Path) -> None:
    engine, graph = bundle.manifest.artifact("rtx-sm89"), bundle.manifest.artifact("int8")
    require_trust(bundle, graph, trust_engines=False)
    with pytest.raises(
        UntrustedEngineError, check=names("engines/sm89.engine", "executable code", "trust_engines=True")
    ):
        require_trust(bundle, engine, trust_engines=False)
    require_trust(bundle, engine, trust_engines=True)
    assert not is_vouched(DIGEST), "trusting once vouches for nothing"
    vouch(DIGEST)
    require_trust(bundle, engine, trust_engines=False)


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_ledger_that_others_can_write_is_refused(ledger: Path, mode: int) -> None:
    vouch(DIGEST)
    ledger.chmod(mode)
    for use in (vouch, is_vouched):
        with pytest.raises(UntrustedEngineError, check=names("that only you can write")):
            use(DIGEST)


def test_a_ledger_of_another_user_is_refused(ledger: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    vouch(DIGEST)
    os.chown(ledger, 12345, 12345)
    with pytest.raises(UntrustedEngineError, check=names("that only you can write")):
        is_vouched(DIGEST)


def test_a_linked_ledger_is_refused(ledger: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / DIGEST).touch()
    ledger.parent.mkdir()
    ledger.symlink_to(elsewhere)
    with pytest.raises(UntrustedEngineError, check=names("got a link")):
        is_vouched(DIGEST)


@pytest.mark.parametrize("digest", ["", "0" * 63, "A" * 64, "../" + "0" * 61, "0" * 64 + "\n"])
@pytest.mark.usefixtures("ledger")
def test_an_invalid_digest_is_refused(digest: str) -> None:
    for use in (vouch, is_vouched):
        with pytest.raises(UsageError, check=names("SHA-256")):
            use(digest)


def test_a_ledger_that_cannot_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, check=names("EDGEACT_CACHE")):
        vouch(DIGEST)
    assert not is_vouched(DIGEST)
