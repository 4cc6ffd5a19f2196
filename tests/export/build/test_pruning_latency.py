"""What a plan gains in time: every layer's own, measured here, or an estimate that is called one."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from rich.console import Console, RenderableType

from edgeact.cli.pruning_plan import plan_table
from edgeact.devices import load_profile
from edgeact.export.build import pruning_latency as latency_module
from edgeact.export.build.pruning_latency import estimated_latency, measured_latency, plan_latency
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.graph.values import operand, static_dims
from edgeact.export.prune import PruneRequest, plan_pruning
from tests.export.prune.networks import CLIP, calibrated


def _text(table: RenderableType) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


@pytest.fixture(scope="module")
def module() -> torch.nn.Module:
    return calibrated("msf-r3d-fsam")


@pytest.mark.slow
def test_on_this_machine_layers_and_the_whole_are_measured(module: torch.nn.Module) -> None:
    before = copy.deepcopy(module.state_dict())
    plan = plan_pruning(module, CLIP.input_shape, PruneRequest(0.5))
    steps: list[tuple[str, int, int]] = []
    told = measured_latency(module, plan, CLIP, lambda *step: steps.append(step), threads=1)
    assert told.measured
    convolutions = [name for name, layer in module.named_modules() if isinstance(layer, torch.nn.Conv3d)]
    assert set(convolutions) <= set(told.layers)
    assert {row.layer for row in plan.rows if ".fc." not in row.layer} <= set(told.layers)
    # OpenVINO's profile counts whole microseconds, in which a core does some 100,000 multiply-accumulates in float: a
    # smaller layer may take 0.
    measurable = [row.layer for row in plan.rows if min(row.macs) > 100_000]
    assert len(measurable) > 1
    assert all(ms > 0 for layer in measurable for ms in told.layers[layer])
    assert all(ms >= 0 for pair in told.layers.values() for ms in pair)
    assert told.rest is not None
    assert min(*told.network, *told.rest) > 0
    assert told.how.endswith("threads: 1; layers by its profile, all in turns")
    assert steps[-1] == ("latency", 2, 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    text = _text(plan_table(plan, told))
    assert "ms measured: float graph in OpenVINO" in text
    assert f"{told.network[0]:.3f} → {told.network[1]:.3f}" in text


@pytest.mark.slow
def test_a_time_goes_to_the_layer_whose_weight_its_node_reads() -> None:
    """By the graph that is timed: nothing else says that a layer's name leads to its own time."""
    network = torch.nn.Sequential(
        torch.nn.Conv3d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv3d(8, 16, 1),
        torch.nn.AdaptiveAvgPool3d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 4),
    ).eval()
    graph = to_onnx(network, CLIP)
    read = {node.name: static_dims(operand(node, 1)) for node in graph.graph if len(node.inputs) > 1}
    owners = {name: owner for name, owner in latency_module._owners(graph).items() if name in read}
    assert sorted(owners.values()) == ["0", "2", "5"]
    for name, owner in owners.items():
        assert read[name] == tuple(network.get_parameter(f"{owner}.weight").shape)
    plan = plan_pruning(network, CLIP.input_shape, PruneRequest(0.5))
    assert set(measured_latency(network, plan, CLIP, threads=1).layers) == {"0", "2", "5"}


def test_a_board_that_is_elsewhere_is_estimated(module: torch.nn.Module) -> None:
    plan = plan_pruning(module, CLIP.input_shape, PruneRequest(0.5))
    told = plan_latency(module, plan, CLIP, load_profile("jetson"))
    assert told is not None
    assert not told.measured
    assert told == estimated_latency(plan, load_profile("jetson"))
    assert told.rest is None
    assert set(told.layers) == {row.layer for row in plan.rows}
    assert all(before >= after > 0 for before, after in (*told.layers.values(), told.network))
    text = _text(plan_table(plan, told))
    assert "ms ESTIMATED: Jetson Orin Nano 8GB, INT8, from its peak rates" in text
    assert "~ms" in text


def test_without_rates_nothing_is_said_of_time(module: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_pruning(module, CLIP.input_shape, PruneRequest(0.5))
    monkeypatch.setattr(latency_module, "is_this_machine", lambda _profile: False)
    assert plan_latency(module, plan, CLIP, load_profile("cpu")) is None  # no CPU's peak rates are in its profile
    assert "ms" not in _text(plan_table(plan)).splitlines()[1].split()
