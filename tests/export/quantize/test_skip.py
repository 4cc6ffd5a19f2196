"""What stays in float: attention gates everywhere, small channels on GPUs, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from edgeact.devices import load_profile
from edgeact.export.models.registry import MODELS
from edgeact.export.quantize.skip import skip_list
from tests.export.convert.exported import exported
from tests.export.convert.graphs import graph, node

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
    assert "cubic kernel" in reasons[first]


@pytest.mark.parametrize("gate", ["Sigmoid", "Softmax"])
def test_scores_at_the_output_are_no_gates(gate: str) -> None:
    weight = {"w": np.ones((8, 8), np.float32)}
    scores = graph([node("MatMul", ["x", "w"], ["m"]), node(gate, ["m"], ["y"])], weight, shape=(1, 8))
    assert skip_list(scores, CPU) == {}
    gated = graph(
        [node("MatMul", ["x", "w"], ["m"]), node(gate, ["m"], ["g"]), node("Mul", ["x", "g"], ["y"])],
        weight,
        shape=(1, 8),
    )
    assert list(skip_list(gated, CPU)) == ["the_MatMul"]
