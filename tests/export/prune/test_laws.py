"""Properties of pruning for every model: a ratio of 0 changes nothing, and removed channels have no influence."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.export.models.checkpoint import ModelCard, write_weights
from edgeact.export.models.loading import LoadRequest, load_model
from edgeact.export.models.pruning.plan import KeptChannels, LayerCut
from edgeact.export.models.registry import MODELS
from edgeact.export.prune import PruneRequest, PruningPlan, apply_plan, plan_pruning, zero_removed_channels
from tests.export.prune.networks import CLIP, FORMULAS, MIXES_NEIGHBORING_CHANNELS, WIDTH, calibrated, clips

pytestmark = pytest.mark.slow

REQUESTS = st.builds(
    PruneRequest,
    ratio=st.floats(0.05, 0.95),
    scope=st.sampled_from(["layer", "global"]),
    importance=st.sampled_from(["l2", "bn-scale"]),
    channel_multiple=st.sampled_from([1, 2, 4]),
)
LABELS = tuple("abcde")


@pytest.mark.parametrize("formula", MODELS)
def test_a_ratio_of_zero_changes_nothing(formula: str) -> None:
    module = copy.deepcopy(calibrated(formula))
    plan = plan_pruning(module, CLIP.input_shape, PruneRequest(0.0, channel_multiple=16))
    apply_plan(module, plan)
    assert (plan.cuts, plan.rows) == ((), ())
    assert plan.parameters[0] == plan.parameters[1]
    state, before = module.state_dict(), calibrated(formula).state_dict()
    assert list(state) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())


@pytest.mark.parametrize("formula", FORMULAS)
@settings(max_examples=2)
@given(request=REQUESTS)
@torch.no_grad()
def test_any_pruning_runs_is_reported_rightly_and_comes_back_from_its_file(formula: str, request: PruneRequest) -> None:
    original = calibrated(formula)
    plan = plan_pruning(original, CLIP.input_shape, request)
    pruned = copy.deepcopy(original)
    apply_plan(pruned, plan)
    assert plan.parameters == tuple(sum(p.numel() for p in one.parameters()) for one in (original, pruned))
    assert plan.macs[1] <= plan.macs[0]
    for row in plan.rows:
        layer: Any = pruned.get_submodule(row.layer)
        assert row.outputs[1] == len(layer.weight)
        assert row.outputs[1] == row.outputs[0] or row.outputs[1] > 0
    outputs = pruned(clips())
    assert torch.isfinite(outputs).all()
    _check_silence(formula, original, plan, outputs)
    _check_file(formula, pruned, plan, outputs)


@pytest.mark.parametrize("formula", MODELS)
@torch.no_grad()
def test_the_narrowest_models_are_pruned_if_they_have_anything_left(formula: str) -> None:
    original = calibrated(formula, width=4)  # pieces of one channel, halves of none
    plan = plan_pruning(original, CLIP.input_shape, PruneRequest(0.5))
    pruned = copy.deepcopy(original)
    apply_plan(pruned, plan)
    assert plan.parameters[1] < plan.parameters[0]
    _check_silence(formula, original, plan, pruned(clips()))


def _check_silence(formula: str, original: torch.nn.Module, plan: PruningPlan, outputs: torch.Tensor) -> None:
    """Removing channels that are zero does not change the outputs."""
    if any(f"+{name}" in formula for name in MIXES_NEIGHBORING_CHANNELS):
        return
    silent = copy.deepcopy(original)
    zero_removed_channels(silent, plan.cuts)
    torch.testing.assert_close(outputs, silent(clips()), rtol=1e-4, atol=1e-6)


def _check_file(formula: str, pruned: torch.nn.Module, plan: PruningPlan, outputs: torch.Tensor) -> None:
    card = ModelCard(model=formula, width=WIDTH, labels=LABELS, clip=CLIP).pruned_by(plan)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pruned.safetensors"
        write_weights(file, pruned, card)
        loaded = load_model(formula, LoadRequest(weights=file))
    torch.testing.assert_close(loaded.module(clips()), outputs, rtol=0, atol=0)
    assert loaded.provenance["pruning_ratio"] == f"{plan.ratio:g}"


@pytest.mark.parametrize("name", MIXES_NEIGHBORING_CHANNELS)
@torch.no_grad()
def test_inside_of_blocks_the_law_holds_beside_every_attention(name: str) -> None:
    original = calibrated(f"resnet3d-18+{name}")
    plan = plan_pruning(original, CLIP.input_shape, PruneRequest(0.0, ratios={"stages.*.conv1.0": 0.5}, max_ratio=0.6))
    inner = [cut.layer for cut in plan.cuts if cut.outputs]
    assert any(".conv1.0" in layer for layer in inner)
    pruned, silent = copy.deepcopy(original), copy.deepcopy(original)
    apply_plan(pruned, plan)
    zero_removed_channels(silent, plan.cuts)
    if all(".conv1." in layer for layer in inner):
        torch.testing.assert_close(pruned(clips()), silent(clips()), rtol=1e-4, atol=1e-6)
    else:
        pytest.fail(f"only the first convolutions of blocks were to be pruned, got {inner}")


@torch.no_grad()
@pytest.mark.parametrize("formula", ["resnet3d-18+eca", "resnet3d-18+eam?order=s"])
def test_the_last_channels_of_an_axis_with_a_kernel_can_go(formula: str) -> None:
    """The padding beyond the end of the axis is zero, like silent channels."""
    original = calibrated(formula)
    plan = plan_pruning(original, CLIP.input_shape, PruneRequest(0.5))
    plan = plan.model_copy(update={"cuts": tuple(_remove_last_channels(cut) for cut in plan.cuts)})
    pruned, silent = copy.deepcopy(original), copy.deepcopy(original)
    apply_plan(pruned, plan)
    zero_removed_channels(silent, plan.cuts)
    torch.testing.assert_close(pruned(clips()), silent(clips()), rtol=1e-4, atol=1e-6)


def _remove_last_channels(cut: LayerCut) -> LayerCut:
    """Return a cut that removes as many channels, the last ones."""
    outputs, inputs = (
        kept and KeptChannels.of(kept.before, list(range(len(kept.indices)))) for kept in (cut.outputs, cut.inputs)
    )
    return LayerCut(layer=cut.layer, outputs=outputs, inputs=inputs)
