"""What stays in float: attention gates everywhere, small channels on GPUs, and nothing else."""

from __future__ import annotations

import pytest

from edgeact.devices import load_profile
from edgeact.export.models.registry import MODELS
from edgeact.export.quantize.skip import skip_list
from tests.export.convert.exported import exported

CPU, GPU = load_profile("cpu"), load_profile("desktop")


@pytest.mark.parametrize(("name", "gates"), [("msf-r3d-fsam", 6), ("msf-r3d", 0), ("cnn3d-gate", 0), ("cnn3d", 0)])
def test_gates_of_the_registry_models(name: str, gates: int) -> None:
    """FSAM twice: two linear layers and one convolution each; the 1x1x1 gate of cnn3d-gate is a layer like others."""
    model = exported(name).graph
    reasons = skip_list(model, CPU)
    assert len(reasons) == gates
    assert all("attention gate" in reason for reason in reasons.values())
    assert set(reasons) <= {entry.name for entry in model.graph.node}


@pytest.mark.parametrize("name", MODELS)
def test_gpus_leave_small_channels_out_too(name: str) -> None:
    model = exported(name).graph
    reasons = skip_list(model, GPU)
    assert skip_list(model, CPU).items() <= reasons.items()
    first = next(entry.name for entry in model.graph.node if entry.op_type == "Conv")
    assert "INT8 kernels" in reasons[first]
