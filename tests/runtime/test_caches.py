"""Code caches: used only when this user wrote them, rebuilt whenever in doubt."""

from __future__ import annotations

import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeact.errors import DeviceError, StorageError
from edgeact.runtime.caches import CodeCache, key_digest
from tests.messages import names

KEY = {"graph": "abc", "version": "10.3.0.30"}


class Builder:
    """Counts builds; `open_code` refuses what starts with 'bad'."""

    def __init__(self, *codes: bytes) -> None:
        self.codes = list(codes)
        self.built = 0

    def build(self) -> bytes:
        self.built += 1
        return self.codes.pop(0)

    def open_code(self, code: bytes) -> str:
        if code.startswith(b"bad"):
            raise DeviceError("another driver")
        return code.decode()


def test_built_once_per_key(tmp_path: Path) -> None:
    cache, builder = CodeCache(tmp_path / "engines"), Builder(b"one", b"two")
    for _ in range(3):
        assert cache.open_or_build(KEY, builder.build, builder.open_code) == "one"
    assert cache.open_or_build({**KEY, "version": "10.3.0.31"}, builder.build, builder.open_code) == "two"
    assert builder.built == 2


def test_only_the_user_can_enter_the_folder(tmp_path: Path) -> None:
    CodeCache(tmp_path / "engines").write(KEY, b"code")
    assert stat.S_IMODE((tmp_path / "engines").stat().st_mode) == 0o700


def test_code_from_elsewhere_is_not_used(tmp_path: Path) -> None:
    cache, builder = CodeCache(tmp_path), Builder(b"mine", b"mine again")
    cache.open_or_build(KEY, builder.build, builder.open_code)
    (tmp_path / f"{key_digest(KEY)}.bin").write_bytes(b"planted")
    assert cache.read(KEY) is None
    assert cache.open_or_build(KEY, builder.build, builder.open_code) == "mine again"


def test_code_that_does_not_open_any_more_is_built_anew(tmp_path: Path) -> None:
    cache, builder = CodeCache(tmp_path), Builder(b"good")
    cache.write(KEY, b"bad since the update")
    assert cache.open_or_build(KEY, builder.build, builder.open_code) == "good"


def test_code_that_never_opens_is_not_kept(tmp_path: Path) -> None:
    cache, builder = CodeCache(tmp_path), Builder(b"bad")
    with pytest.raises(DeviceError, check=names("another driver")):
        cache.open_or_build(KEY, builder.build, builder.open_code)
    assert cache.read(KEY) is None


def test_without_a_folder_nothing_is_kept() -> None:
    cache, builder = CodeCache(None), Builder(b"one", b"two")
    assert [cache.open_or_build(KEY, builder.build, builder.open_code) for _ in range(2)] == ["one", "two"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, check=names("cannot create the cache folder")):
        CodeCache(tmp_path / "file" / "engines").write(KEY, b"code")


def test_a_disk_that_takes_nothing_costs_no_result(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache, builder = CodeCache(tmp_path / "file" / "engines"), Builder(b"one")
    assert cache.open_or_build(KEY, builder.build, builder.open_code) == "one"


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    """The lock belongs to the open file, so threads stand for processes."""
    cache, builder = CodeCache(tmp_path), Builder(b"one", b"two")

    def slowly() -> bytes:
        time.sleep(0.05)
        return builder.build()

    with ThreadPoolExecutor(4) as pool:
        opened = [pool.submit(cache.open_or_build, KEY, slowly, builder.open_code) for _ in range(4)]
    assert {future.result() for future in opened} == {"one"}
    assert builder.built == 1
