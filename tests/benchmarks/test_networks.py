"""The native engine against peers on narrow networks of depthwise and grouped convolutions."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from edgeact.runtime import get_backend
from tests.benchmarks.networks import NETWORKS, networks
from tests.benchmarks.records import BenchSettings
from tests.benchmarks.workspace import Workspace
from tests.benchmarks.x3d import x3d_s


def test_x3d_s_has_the_parameters_of_the_paper() -> None:
    """Feichtenhofer, table 4: 3.8 M parameters."""
    module = x3d_s()
    assert 3.7e6 < sum(parameter.numel() for parameter in module.parameters()) < 3.85e6
    depthwise = [layer for layer in module.modules() if isinstance(layer, nn.Conv3d) and layer.groups > 1]
    assert len(depthwise) == 1 + 3 + 5 + 11 + 7


@pytest.mark.timing
@pytest.mark.slow
def test_every_network_has_a_row_or_its_refusal(tmp_path: Path) -> None:
    if reason := get_backend("native").why_unavailable():
        pytest.skip(reason)
    workspace = Workspace(BenchSettings.quick(rounds=2), tmp_path, lambda _step: None)
    rows = {row.name for row in networks(workspace)}
    refused = {gap.subject for gap in workspace.gaps}
    for name in NETWORKS:
        assert f"{name}: times faster than the fastest peer" in rows or f"{name} by the native engine" in refused
        assert {f"latency of {name}, OpenVINO FP32", f"latency of {name}, ONNX Runtime FP32"} <= rows
