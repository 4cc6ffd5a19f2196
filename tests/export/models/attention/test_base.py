"""The protocol of attention modules: every registered attention answers, and a new one needs no other file."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from edgeact.export.explain.attention_weights import collect_weights
from edgeact.export.models.attention.base import AttentionModule, AttentionView, Gate, Site
from edgeact.export.models.attention.registry import ATTENTIONS, AttentionSpec
from edgeact.export.models.attention.se import SqueezeExcitation
from edgeact.export.models.part_options import AttentionOptions
from edgeact.export.models.pruning.plan import KeptChannels
from edgeact.export.prune import PruneRequest, apply_plan, plan_pruning, zero_removed_channels
from edgeact.export.prune.dependency_graph import Operation, trace_dependencies
from edgeact.export.prune.surrogates import surrogates
from edgeact.export.prune.trace import trace_channels
from tests.export.prune.networks import CLIP, calibrated, clips

SITE = Site(channels=16, frames=4, size=(6, 5), stage=3)


def _modules(name: str) -> dict[str, AttentionModule]:
    row = ATTENTIONS[name]
    module = row.build(SITE, row.options())
    return {path: part for path, part in module.named_modules() if isinstance(part, AttentionModule)}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_every_attention_has_modules_that_answer_and_no_parameters_outside_of_them(name: str) -> None:
    row = ATTENTIONS[name]
    module, modules = row.build(SITE, row.options()), _modules(name)
    assert modules
    prefixes = [f"{path}." if path else "" for path in modules]
    assert all(any(key.startswith(prefix) for prefix in prefixes) for key, _ in module.named_parameters())


@pytest.mark.parametrize("name", ATTENTIONS)
def test_what_is_traced_has_the_shape_of_what_is_computed(name: str) -> None:
    x = torch.randn(2, SITE.channels, SITE.frames, *SITE.size)
    for part in _modules(name).values():
        assert isinstance(part, nn.Module)
        traced, *_ = part.trace_channels(x)
        assert traced.shape == part(x).shape == x.shape


@pytest.mark.parametrize("name", ATTENTIONS)
def test_what_is_shown_has_the_length_of_its_axis(name: str) -> None:
    x = torch.randn(1, SITE.channels, SITE.frames, *SITE.size)
    for part in _modules(name).values():
        view = part.view(x)
        assert view.title.strip()
        shown = {"channels": view.channels, "frames": view.frames, "positions": view.positions}
        shapes = {"channels": (SITE.channels,), "frames": (SITE.frames,), "positions": (SITE.frames, *SITE.size)}
        assert any(values is not None for values in shown.values())
        assert all(values is None or tuple(values.shape) == shapes[axis] for axis, values in shown.items())


class _Loudness(Gate):
    """One weight per frame, from the mean over all channels and positions; and a scale per channel, in no layer."""

    title = "loudness"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(channels))
        self.sharpness = nn.Parameter(torch.tensor(2.0))

    def weights(self, x: Tensor) -> Tensor:
        """`(N, C, T, 1, 1)`."""
        frames = torch.sigmoid(self.sharpness * x.mean(dim=(1, 3, 4), keepdim=True))
        return frames * self.scale[:, None, None, None]

    def trace_channels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return `x`."""
        return (x,)

    def remove_channels(self, kept: KeptChannels) -> None:
        """Drop the scales of removed channels; the mean over channels grows."""
        self.scale = nn.Parameter(self.scale[kept.indices])
        self.sharpness.mul_(kept.share)

    def view(self, x: Tensor) -> AttentionView:
        """Return the frames alone."""
        return AttentionView(self.title or "", frames=self.weights(x)[0].mean(dim=(0, 2, 3)))


class _Excitation(SqueezeExcitation):
    """A subclass that changes nothing."""


def _loudness(site: Site, options: AttentionOptions) -> nn.Module:
    return _Loudness(site.channels)


def _excitation(site: Site, options: AttentionOptions) -> nn.Module:
    return _Excitation(site.channels, reduction=2)


@pytest.fixture(params=[_loudness, _excitation])
def formula(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model with an attention that is defined in this file alone."""
    name: str = request.param.__name__.strip("_")
    monkeypatch.setitem(ATTENTIONS, name, AttentionSpec(name, request.param, "this test"))
    return f"resnet3d-18+{name}"


@torch.no_grad()
def test_a_new_attention_is_pruned(formula: str) -> None:
    original = calibrated(formula)
    plan = plan_pruning(original, CLIP.input_shape, PruneRequest(0.5))
    widths = {row.layer: row.outputs for row in plan.rows}
    assert widths["stages.3.1.conv2.0"] == (64, 32)  # what the attention weighs
    pruned, zeroed = copy.deepcopy(original), copy.deepcopy(original)
    apply_plan(pruned, plan)
    zero_removed_channels(zeroed, plan.cuts)
    torch.testing.assert_close(pruned(clips()), zeroed(clips()), rtol=1e-4, atol=1e-6)


def test_a_new_attention_is_shown(formula: str) -> None:
    collected = collect_weights(calibrated(formula), clips(1))
    assert [weights.stage for weights in collected] == [1, 2, 3, 4]
    kinds = {"loudness", "channel attention"}
    assert {weights.kind for weights in collected} == kinds & {"loudness" if "loud" in formula else "channel attention"}
    assert all((weights.frames is None) == (weights.kind != "loudness") for weights in collected)


def test_a_subclass_is_traced_as_its_base() -> None:
    module = nn.Sequential(nn.Conv3d(3, 8, 1), _Excitation(8, reduction=2), nn.Conv3d(8, 4, 1), nn.Conv3d(4, 2, 1))
    traced = trace_channels(module, (1, 3, 2, 4, 4))
    (group,) = (group for group in traced.groups if "0" in group.output_layers)
    assert {(member.layer, member.side) for member in group.members} == {
        ("0", "outputs"),
        ("1", "outputs"),
        ("1.fc.0", "inputs"),
        ("1.fc.2", "outputs"),
        ("2", "inputs"),
    }


def test_a_gate_that_only_defines_its_weights_is_traced_as_it_is() -> None:
    class Plain(Gate):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(8, 8, 1)

        def weights(self, x: Tensor) -> Tensor:
            return torch.sigmoid(self.conv(x))

    module = nn.Sequential(nn.Conv3d(3, 8, 1), Plain(), nn.Conv3d(8, 4, 1))
    with surrogates(module) as results:
        nodes = trace_dependencies(module, torch.zeros(1, 3, 2, 4, 4), lambda network, x: [network(x), *results])
    assert sum(node.operation is Operation.LAYER for node in nodes) == 4  # and the tap
    assert isinstance(module[1], Plain)
