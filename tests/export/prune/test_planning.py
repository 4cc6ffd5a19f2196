"""Plans follow the requested ratios and channel multiples, and give a reason for every layer that is kept whole."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.devices import load_profile
from edgeact.errors import ModelError, UsageError
from edgeact.export.models.cost import count_parameters
from edgeact.export.models.registry import MODELS
from edgeact.export.prune import (
    PruneRequest,
    PruningPlan,
    accumulate_gradients,
    apply_plan,
    plan_pruning,
    zero_removed_channels,
)
from edgeact.phrases import phrase
from edgeact.pruning_reasons import KeepReason, ReasonKind
from tests.export.prune.networks import (
    CLIP,
    Careless,
    Flattened,
    Gated,
    Hollow,
    Mixed,
    Padded,
    Shuffled,
    Stubborn,
    Twice,
    calibrated,
    clips,
)
from tests.messages import names

SHAPE = (1, 3, 4, 8, 8)


def kinds(plan: PruningPlan) -> dict[str, ReasonKind]:
    return {skipped.layer: ReasonKind(skipped.kind) for skipped in plan.skipped}


def full(name: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    spec = MODELS[name]
    options = spec.config(101)
    return spec.build(options).eval(), options.input_shape


@pytest.mark.slow
def test_the_full_size_model_lands_on_the_profiles_multiples_within_seconds() -> None:
    module, shape = full("msf-r3d-fsam")
    multiple = load_profile("cpu").channel_multiple_int8
    assert multiple == 16
    began = time.process_time()
    plan = plan_pruning(module, shape, PruneRequest(0.5, channel_multiple=multiple), "ab" * 32)
    assert time.process_time() - began < 20
    assert plan.parameters[0] == count_parameters(module)
    assert plan.macs[1] < 0.5 * plan.macs[0]
    assert {row.layer for row in plan.rows} > {"stem.0", "stages.3.1.msl.branches.2.0", "classifier"}
    for row in plan.rows:  # the splits' branches too, of 16, 24, 28 ... channels before
        for before, after in (row.inputs, row.outputs):
            assert after == before or after % multiple == 0, row
    assert plan.provenance["pruned_from_weights"] == "ab" * 32
    assert PruningPlan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet3d-50", "msf-r3d", "3drfnet-18", "resnext3d-101", "se-sa-resnet18"])
def test_a_ratio_is_met_if_there_is_no_multiple(name: str) -> None:
    plan = plan_pruning(calibrated(name), CLIP.input_shape, PruneRequest(0.5))
    assert plan.parameters[1] / plan.parameters[0] == pytest.approx(0.25, abs=0.08)


@pytest.mark.slow
@settings(max_examples=8)
@given(ratio=st.floats(0.0, 0.98), max_ratio=st.floats(0.1, 0.95), multiple=st.sampled_from([1, 3, 8]))
def test_no_layer_loses_more_than_allowed_but_for_rounding(ratio: float, max_ratio: float, multiple: int) -> None:
    request = PruneRequest(ratio, scope="global", max_ratio=max_ratio, channel_multiple=multiple)
    plan = plan_pruning(calibrated("resnet3d-18"), CLIP.input_shape, request)
    for row in plan.rows:
        before, after = row.outputs
        assert after >= before * (1 - max_ratio) - multiple
        assert after > 0


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.6])
def test_channels_of_equal_importance_go_from_everywhere_alike(ratio: float) -> None:
    module = calibrated("resnet3d-18")  # all its batch norms have scale 1
    plan = plan_pruning(module, CLIP.input_shape, PruneRequest(ratio, scope="global", importance="bn-scale"))
    inner = [cut.outputs for cut in plan.cuts if cut.layer.endswith("conv1.0") and cut.outputs]
    assert len(inner) == 8
    assert all(abs(len(kept.indices) - kept.before * (1 - ratio)) <= 1 + kept.before / 16 for kept in inner)


def test_the_least_important_channels_go() -> None:
    module = copy.deepcopy(calibrated("resnet3d-18"))
    faint = [1, 2, 5]
    with torch.no_grad():
        for layer in ("conv1.0", "conv1.1"):
            module.get_submodule(f"stages.1.1.{layer}").get_parameter("weight")[faint] *= 1e-3
        module.get_submodule("stages.1.1.conv2.0").get_parameter("weight")[:, faint] *= 1e-3
    request = PruneRequest(0.0, ratios={"stages.1.1.conv1.0": len(faint) / 16})
    for importance in ("l2", "bn-scale"):
        plan = plan_pruning(module, CLIP.input_shape, PruneRequest(0.0, ratios=request.ratios, importance=importance))
        gone = {cut.layer: cut.outputs for cut in plan.cuts if cut.outputs}
        assert list(gone) == ["stages.1.1.conv1.0", "stages.1.1.conv1.1"]
        assert all(kept and sorted({*range(16)} - {*kept.indices}) == faint for kept in gone.values())
    scattered = plan_pruning(module, CLIP.input_shape, PruneRequest(0.002, scope="global"))
    assert [cut.outputs.before for cut in scattered.cuts if cut.layer == "stages.1.1.conv1.0" and cut.outputs] == [16]


def test_taylor_asks_what_the_loss_would_lose() -> None:
    module = copy.deepcopy(calibrated("r3d-18"))
    request = PruneRequest(0.25, importance="taylor")
    with pytest.raises(UsageError, check=names("accumulate_gradients")):
        plan_pruning(module, CLIP.input_shape, request)
    with pytest.raises(UsageError, check=names("at least one clip")):
        accumulate_gradients(module, [])
    assert accumulate_gradients(module, [(clips(2), torch.tensor([0, 1])), (clips(1), torch.tensor([2]))]) == 3
    plan = plan_pruning(module, CLIP.input_shape, request)
    plain = plan_pruning(module, CLIP.input_shape, PruneRequest(0.25))
    assert plan.parameters == plain.parameters
    assert plan.cuts != plain.cuts
    hidden: Any = module.get_submodule("stages.0.0")
    for parameter in (hidden.conv1[0].weight, hidden.conv1[1].weight):
        parameter.grad[[3, 4]] = 0  # the loss does not depend on these two channels
    hidden.conv2[0].weight.grad[:, [3, 4]] = 0
    kept = {cut.layer: cut.outputs for cut in plan_pruning(module, CLIP.input_shape, request).cuts}[
        "stages.0.0.conv1.0"
    ]
    assert kept
    assert kept.indices == [0, 1, 2, 5, 6, 7]


def test_stages_have_their_ratios() -> None:
    ratios = {"stages.0.*": 0.0, "stages.3.1.conv1.*": 0.75}
    plan = plan_pruning(calibrated("resnet3d-18"), CLIP.input_shape, PruneRequest(0.5, ratios=ratios))
    outputs = {row.layer: row.outputs for row in plan.rows if row.outputs[0] != row.outputs[1]}
    assert outputs["stages.3.1.conv1.0"] == (64, 16)
    assert outputs["stages.2.1.conv1.0"] == (32, 16)
    assert not any(layer.startswith(("stem", "stages.0.")) for layer in outputs)
    assert kinds(plan)["stages.0.0.conv1.0"] is ReasonKind.excluded
    with pytest.raises(UsageError, check=names("pattern 'stages.9.*': expected the name of a prunable layer")):
        plan_pruning(calibrated("resnet3d-18"), CLIP.input_shape, PruneRequest(0.5, ratios={"stages.9.*": 0.1}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"ratio": 1.0},
        {"ratio": -0.1},
        {"ratios": {"a": 2.0}},
        {"channel_multiple": 0},
        {"max_ratio": 1.0},
        {"scope": "x"},
    ],
)
def test_request_outside_of_its_bounds_is_refused(wrong: dict[str, Any]) -> None:
    (value,) = wrong["ratios"].values() if "ratios" in wrong else wrong.values()
    with pytest.raises(UsageError, check=names("expected", value if isinstance(value, str) else f"got {value:g}")):
        PruneRequest(**wrong)


@torch.no_grad()
def test_a_users_network_is_pruned_if_it_can_be_and_the_rest_is_named() -> None:
    torch.manual_seed(0)
    original = Mixed().eval()
    plan = plan_pruning(original, SHAPE, PruneRequest(0.5))
    pruned, silent = copy.deepcopy(original), copy.deepcopy(original)
    apply_plan(pruned, plan)
    zero_removed_channels(silent, plan.cuts)
    x = torch.randn(2, *SHAPE[1:])
    torch.testing.assert_close(pruned(x), silent(x))
    assert {row.layer: row.outputs for row in plan.rows if row.outputs[0] != row.outputs[1]} == {
        "stem": (16, 8),
        "grouped": (24, 12),
        "depthwise": (24, 12),
        "left": (12, 6),
        "right": (10, 5),
        "hidden": (32, 16),
    }
    assert (pruned.grouped.groups, pruned.depthwise.groups) == (4, 12)
    assert kinds(plan) == {
        "scaled": ReasonKind.free_parameter,
        "normed": ReasonKind.unsupported_layer,
        "head": ReasonKind.model_output,
        "never_called": ReasonKind.not_reached,
    }
    reasons = {skipped.layer: skipped.reason for skipped in plan.skipped}
    assert reasons["normed"] == phrase(KeepReason(ReasonKind.unsupported_layer, "'layer_norm', a LayerNorm"))


def test_what_code_has_written_down_remains() -> None:
    plan = plan_pruning(Stubborn(), SHAPE, PruneRequest(0.5))
    assert [row.layer for row in plan.rows] == ["first", "second"]
    assert kinds(plan)["second"] is ReasonKind.needed_to_run


@torch.no_grad()
def test_a_map_of_one_channel_is_no_partner_of_the_first_it_weighs() -> None:
    original = Gated().eval()
    plan = plan_pruning(original, SHAPE, PruneRequest(0.5))
    assert {row.layer: row.outputs for row in plan.rows} == {"conv": (8, 4), "map": (1, 1), "head": (4, 4)}
    pruned, silent = copy.deepcopy(original), copy.deepcopy(original)
    apply_plan(pruned, plan)
    zero_removed_channels(silent, plan.cuts)
    torch.testing.assert_close(pruned(torch.ones(SHAPE)), silent(torch.ones(SHAPE)))


def test_channels_that_cannot_be_followed_stay() -> None:
    plan = plan_pruning(Shuffled(), SHAPE, PruneRequest(0.5))
    assert {row.layer: row.outputs for row in plan.rows} == {"next": (6, 3), "head": (4, 4)}
    assert kinds(plan)["conv"] is ReasonKind.not_followed


@torch.no_grad()
def test_a_split_into_all_and_nothing_couples_nothing_with_the_empty_part() -> None:
    torch.manual_seed(0)
    original = Hollow().eval()
    plan = plan_pruning(original, SHAPE, PruneRequest(0.5))
    changed = {row.layer: row.outputs for row in plan.rows if row.outputs[0] != row.outputs[1]}
    assert changed == {"second": (8, 4), "third": (8, 4)}
    assert kinds(plan)["first"] is ReasonKind.too_narrow
    pruned, silent = copy.deepcopy(original), copy.deepcopy(original)
    apply_plan(pruned, plan)
    zero_removed_channels(silent, plan.cuts)
    torch.testing.assert_close(pruned(torch.ones(SHAPE)), silent(torch.ones(SHAPE)))


def test_channels_of_input_and_logits_are_not_pruned() -> None:
    plan = plan_pruning(Careless(), SHAPE, PruneRequest(0.5))
    assert {row.layer: row.outputs for row in plan.rows} == {"inner": (6, 3), "same": (3, 3)}
    assert kinds(plan).keys() == {"same"}


def test_planning_leaves_the_module_alone() -> None:
    module = copy.deepcopy(calibrated("msf-r3d-fsam")).train()
    names = [name for name, _ in module.named_modules()]
    plan_pruning(module, CLIP.input_shape, PruneRequest(0.5))
    assert module.training
    assert [name for name, _ in module.named_modules()] == names
    assert all(
        torch.equal(p, q)
        for p, q in zip(module.state_dict().values(), calibrated("msf-r3d-fsam").state_dict().values(), strict=True)
    )


def test_plan_of_another_model_is_refused() -> None:
    plan = plan_pruning(calibrated("r3d-18"), CLIP.input_shape, PruneRequest(0.5))
    pruned = copy.deepcopy(calibrated("r3d-18"))
    apply_plan(pruned, plan)
    with pytest.raises(ModelError, check=names("stem.0' has 4 outputs, expected 8")):
        apply_plan(pruned, plan)
    with pytest.raises(ModelError, check=names("expected a layer 'stem.0', got a model without it")):
        apply_plan(Stubborn(), plan)


def test_nothing_to_prune_is_stated() -> None:
    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(1, 4)

    with pytest.raises(ModelError, check=names("nothing to prune")):
        plan_pruning(Constant(), SHAPE, PruneRequest(0.5))


def test_channels_beside_a_constant_are_not_followed() -> None:
    plan = plan_pruning(Padded(), SHAPE, PruneRequest(0.5))
    assert not any(row.outputs[0] != row.outputs[1] for row in plan.rows if row.layer == "conv")
    assert kinds(plan)["conv"] is ReasonKind.not_followed


def test_parts_of_a_split_that_one_layer_reads_in_turn_are_not_followed() -> None:
    plan = plan_pruning(Twice(), SHAPE, PruneRequest(0.5))
    assert {row.layer: row.outputs for row in plan.rows} == {"shared": (6, 3), "head": (4, 4)}
    assert kinds(plan)["conv"] is ReasonKind.not_followed


def test_channels_that_become_rows_are_not_followed() -> None:
    plan = plan_pruning(Flattened(), SHAPE, PruneRequest(0.5))
    assert kinds(plan)["conv"] is ReasonKind.not_followed


def test_plans_written_before_reasons_had_a_kind_are_read() -> None:
    document = plan_pruning(calibrated("r3d-18"), CLIP.input_shape, PruneRequest(0.5)).model_dump(mode="json")
    for layer in document["skipped"]:
        del layer["kind"]
    assert [layer.kind for layer in PruningPlan.model_validate(document).skipped] == [""] * len(document["skipped"])
