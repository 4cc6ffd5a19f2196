"""The engine by instruction set against a capped peer, and two models on disjoint cores, with a small network."""

from __future__ import annotations

from pathlib import Path

import openvino
import pytest

import edgeact
from edgeact.calibration.clips import sample_clips
from edgeact.calibration.datasets import load_dataset
from edgeact.export.graph.proto import to_bytes
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.loading import LoadRequest, load_model
from edgeact.runtime import get_backend
from edgeact.runtime.native.library import supported_isas
from tests.benchmarks.cores import cores_rows
from tests.benchmarks.isa import isa_rows
from tests.benchmarks.records import BenchSettings
from tests.benchmarks.subjects import nncf_defaults
from tests.benchmarks.workspace import Workspace

pytestmark = [pytest.mark.timing, pytest.mark.slow]

REQUEST = LoadRequest(random_weights=True, width=8, clip_frames=4, size=32)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    if reason := get_backend("native").why_unavailable():
        pytest.skip(reason)
    return Workspace(BenchSettings.quick(rounds=2), tmp_path_factory.mktemp("bench"), lambda _step: None)


@pytest.fixture(scope="module")
def bundle(workspace: Workspace) -> Path:
    """A bundle of a small network for the CPU, with random weights."""
    return edgeact.export(
        "msf-r3d-fsam",
        "cpu",
        random_weights=True,
        width=8,
        clip_frames=4,
        size=32,
        data=workspace.settings.data,
        clips=32,
        videos=4,
        out=workspace.folder / "small.edgeact",
    ).path


@pytest.fixture(scope="module")
def peer(workspace: Workspace) -> Path:
    """The same network in INT8 by NNCF's defaults."""
    model = load_model("msf-r3d-fsam", REQUEST)
    clips = sample_clips(load_dataset(workspace.settings.data).splits["train"], model.clip, 8).inputs
    path = workspace.folder / "peer.xml"
    openvino.save_model(nncf_defaults(to_bytes(to_onnx(model.module, model.clip)), clips), path)
    return path


def test_every_instruction_set_has_a_row_against_a_peer_that_obeys_the_cap(
    workspace: Workspace, bundle: Path, peer: Path
) -> None:
    rows = isa_rows(workspace, "bundle", (bundle, peer))
    assert [row.name.split(": times")[0] for row in rows] == [f"{isa}: bundle" for isa in reversed(supported_isas())]
    assert all("native-int8 on native" in row.how for row in rows)
    assert all("EDGEACT_NATIVE_ISA=" in row.how and "ONEDNN_MAX_CPU_ISA=" in row.how for row in rows)
    assert all(row.passed is None for row in rows)  # the limits are those of the full size
    kernels = next(row.how for row in rows if row.name.startswith("avx2:")).split("convolutions run in ")[1]
    assert "avx2" in kernels
    assert "avx512" not in kernels


def test_two_models_on_disjoint_cores_have_a_row(workspace: Workspace, bundle: Path) -> None:
    (share,) = cores_rows(workspace, bundle)
    assert share.value > 0
