"""One valid bundle for all tests of the room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeact.bundle import Bundle, open_bundle
from tests.bundle import making


@pytest.fixture(scope="session")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a complete bundle with measurements."""
    return making.make(tmp_path_factory.mktemp("valid") / "valid.edgeact").path.read_bytes()


@pytest.fixture(scope="session")
def open_bytes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], Bundle]:
    """Opens bytes as a bundle, through a file."""
    path: Path = tmp_path_factory.mktemp("opened") / "some.edgeact"

    def open_them(data: bytes) -> Bundle:
        path.write_bytes(data)
        return open_bundle(path)

    return open_them
