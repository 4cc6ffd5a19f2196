"""Excluded layers: attention gates on every target, small channels on GPUs, and nothing else."""

from __future__ import annotations

import pytest

from edgeact.devices import load_profile
from edgeact.export.graph.values import given_inputs, name_of, weight_dims
from edgeact.export.models.registry import MODELS
from edgeact.export.quantize.exclusions import module_layers, target_exclusions
from edgeact.export.quantize.tensorrt_rules import int8_exclusion_reason
from edgeact.layer_reasons import AttentionGate, KeptOnRequest
from tests.export.graph.exported import exported

CPU, GPU = load_profile("cpu"), load_profile("desktop")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gates"), [("msf-r3d-fsam", 6), ("msf-r3d", 0), ("cnn3d-gate", 0), ("cnn3d", 0)])
def test_gates_of_the_registry_models(name: str, gates: int) -> None:
    """Two FSAM of two linear layers and a convolution each; the 1x1x1 gate of cnn3d-gate is quantized."""
    model = exported(name).graph
    reasons = target_exclusions(model, CPU)
    assert len(reasons) == gates
    assert all(reason == AttentionGate() for reason in reasons.values())
    assert set(reasons) <= {entry.name for entry in model.graph}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_gpus_exclude_small_channels_too(name: str) -> None:
    model = exported(name).graph
    reasons, gates = target_exclusions(model, GPU), target_exclusions(model, CPU)
    assert gates.items() <= reasons.items()
    convs = [entry for entry in model.graph if entry.op_type == "Conv"]
    for index, conv in enumerate(convs):
        small = int8_exclusion_reason(weight_dims(conv), conv.attributes["group"].as_int(), index == 0)
        assert (conv.name in reasons) == bool(small or conv.name in gates)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_layers_of_a_module_are_those_with_its_weights(name: str) -> None:
    """The children of the root contain every layer, and no layer twice."""
    model = exported(name).graph
    layers = [entry.name for entry in model.graph if entry.op_type in ("Conv", "Gemm", "MatMul")]
    children = sorted({name.split(".")[0] for name in model.graph.initializers if "." in name})
    parts = [module_layers(model, (child,)) for child in children]
    assert sum(len(part) for part in parts) == len(set().union(*parts))
    assert set(module_layers(model, tuple(children))) == set().union(*parts) <= set(layers)
    named = {
        entry.name for entry in model.graph if any(name_of(value).endswith(".weight") for value in given_inputs(entry))
    }
    assert named & set(layers) <= set().union(*parts)
    stem = module_layers(model, (children[-1],))
    assert all(reason == KeptOnRequest(module=children[-1]) for reason in stem.values())
