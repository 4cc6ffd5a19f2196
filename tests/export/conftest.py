"""What the tests of the exporter share: one small network, its videos, and what was read of them."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from edgeact.export.build.data import DataPlan, ExportData, gather
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.loading import LoadedModel
from tests.export.colours import LABELS, load_colours, write_colours


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGEACT_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def colour_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders: 4 colours of 15 persons."""
    return write_colours(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="session")
def colours() -> LoadedModel:
    """The network that tells colours apart."""
    return load_colours()


@pytest.fixture(scope="session")
def colour_data(colour_videos: Path, colours: LoadedModel) -> ExportData:
    """What the exporter makes of the videos."""
    return gather(DataPlan(str(colour_videos)), LABELS, colours.clip)


@pytest.fixture(scope="session")
def colour_master(colours: LoadedModel) -> ir.Model:
    """The network as ONNX."""
    return to_onnx(colours.module, colours.clip)
