"""Every test has a separate cache folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.making import make_bundle


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGEACT_CACHE", str(folder))
    return folder


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    """One ONNX artifact for ONNX Runtime."""
    return make_bundle(tmp_path / "tiny.edgeact").path
