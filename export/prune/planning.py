"""Plan which channels of a module to remove, and apply a plan."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn
from torch.nn.modules.conv import _ConvNd

from edgeact.errors import ModelError
from edgeact.export.models.cost import Cost, LayerCost, measure_cost
from edgeact.export.models.pruning.apply import apply_cuts
from edgeact.export.models.pruning.plan import KeptChannels, LayerCut, LayerRow, PruningPlan, Side, UnprunedLayer
from edgeact.export.prune.importance import score_groups
from edgeact.export.prune.ratios import group_ratios, pattern_ratio
from edgeact.export.prune.request import PruneRequest
from edgeact.export.prune.select import Constraints, KeptUnits, select_units
from edgeact.export.prune.trace import ChannelGroup, GroupKey, TracedChannels, trace_channels
from edgeact.phrases import phrase
from edgeact.pruning_reasons import KeepReason, ReasonKind

__all__ = ["apply_plan", "group_sizes", "plan_pruning"]


def plan_pruning(
    module: nn.Module, input_shape: Sequence[int], request: PruneRequest | None = None, weights_sha256: str = ""
) -> PruningPlan:
    """Plan what to remove from `module`, which is unchanged; `input_shape` is that of a clip, `(1, 3, T, H, W)`.

    Layers that keep all output channels are in the plan's `skipped`, with the reason. Raises UsageError for a pattern
    in `request.ratios` that matches no layer, ModelError if the module cannot be traced.
    """
    wanted = request or PruneRequest()
    traced = trace_channels(module, input_shape)
    scores = score_groups(module, traced.groups, wanted.importance)
    ratios = group_ratios(traced.groups, scores, wanted)
    constraints = Constraints(wanted.channel_multiple, wanted.max_ratio)
    units = select_units(traced.groups, scores, ratios, traced.widths, constraints)
    pruning = _runnable(module, input_shape, traced, units)
    before = _measure(module, input_shape, ())
    kept = {**traced.kept, **pruning.kept}
    for group, mask, ratio in zip(traced.groups, pruning.units, ratios, strict=True):
        if mask.all():
            reason = _why_whole(group, ratio, wanted)
            for layer in group.output_layers:
                if isinstance(module.get_submodule(layer), (_ConvNd, nn.Linear)):
                    kept.setdefault(layer, reason)
    changed = {cut.layer for cut in pruning.cuts if cut.outputs}
    return PruningPlan(
        input_shape=tuple(input_shape),
        ratio=wanted.ratio,
        ratios=dict(wanted.ratios),
        scope=wanted.scope,
        importance=wanted.importance,
        channel_multiple=wanted.channel_multiple,
        weights_sha256=weights_sha256,
        parameters=(before.parameters, pruning.cost.parameters),
        macs=(before.macs, pruning.cost.macs),
        moved=(before.elements_moved, pruning.cost.elements_moved),
        rows=tuple(_changed_rows(before, pruning.cost)),
        skipped=tuple(_unpruned(layer, kept[layer]) for layer in sorted(kept) if layer not in changed),
        cuts=pruning.cuts,
    )


def apply_plan(module: nn.Module, plan: PruningPlan) -> None:
    """Remove from `module`, in place, what `plan` says; raises ModelError if the plan is of another module."""
    apply_cuts(module, plan.cuts)


def group_sizes(module: nn.Module, input_shape: Sequence[int]) -> dict[GroupKey, int]:
    """Return the number of units that can be removed independently, by group of coupled channels."""
    return {group.key: group.size for group in trace_channels(module, input_shape).groups}


@dataclass(frozen=True, eq=False)
class _Pruning:
    """Units that remain, the cuts that follow, and the cost of the pruned module."""

    units: tuple[KeptUnits, ...]
    cuts: tuple[LayerCut, ...]
    cost: Cost
    kept: Mapping[str, KeepReason]
    """Layers that remain whole because the module does not run otherwise."""


def _runnable(
    module: nn.Module, input_shape: Sequence[int], traced: TracedChannels, units: Sequence[KeptUnits]
) -> _Pruning:
    """Prune as in `units`, but for groups without which a user's module does not run: a width written in its code."""
    cuts = _cuts(module, traced, units)
    cost = _try(module, input_shape, cuts)
    if isinstance(cost, Cost):
        return _Pruning(tuple(units), cuts, cost, {})
    able, kept = list(units), dict[str, KeepReason]()
    for index, (group, mask) in enumerate(zip(traced.groups, units, strict=True)):
        alone = _cuts(module, replace(traced, groups=(group,)), [mask])
        error = _try(module, input_shape, alone) if alone else None
        if isinstance(error, str):
            able[index] = np.ones(group.size, bool)
            kept |= dict.fromkeys(group.output_layers, KeepReason(ReasonKind.needed_to_run, error))
    cuts = _cuts(module, traced, able)
    cost = _try(module, input_shape, cuts)
    if isinstance(cost, str):
        raise ModelError(
            f"'{type(module).__name__}' cannot be pruned: expected the pruned model to run on {tuple(input_shape)}, "
            f"got: {cost}; exclude layers by name with a ratio of 0"
        )
    return _Pruning(tuple(able), cuts, cost, kept)


def _try(module: nn.Module, input_shape: Sequence[int], cuts: Sequence[LayerCut]) -> Cost | str:
    """Return the cost of the module with `cuts` applied, or the error it fails with."""
    try:
        return _measure(module, input_shape, cuts)
    except Exception as error:  # whatever the user's code raises
        return (str(error).splitlines() or [type(error).__name__])[0]


def _measure(module: nn.Module, input_shape: Sequence[int], cuts: Sequence[LayerCut]) -> Cost:
    """Return the cost of the module with `cuts` applied, by shapes alone if the module runs on the meta device."""
    try:
        return _measure_copy(copy.deepcopy(module).to("meta"), input_shape, cuts)
    except (NotImplementedError, RuntimeError):  # code that looks at values, or constants of its own on the CPU
        return _measure_copy(copy.deepcopy(module), input_shape, cuts)


def _measure_copy(network: nn.Module, input_shape: Sequence[int], cuts: Sequence[LayerCut]) -> Cost:
    apply_cuts(network, cuts)
    return measure_cost(network, input_shape)


def _cuts(module: nn.Module, traced: TracedChannels, units: Sequence[KeptUnits]) -> tuple[LayerCut, ...]:
    """Return what remains of every layer that loses channels, in the module's order."""
    removed: dict[str, dict[Side, set[int]]] = {}
    for group, mask in zip(traced.groups, units, strict=True):
        for member in group.members if not mask.all() else ():
            sides = removed.setdefault(member.layer, {})
            sides.setdefault(member.side, set()).update(member.channels[~mask].ravel().tolist())
    cuts = []
    for name, _ in module.named_modules():
        kept = {
            side: KeptChannels.of(width, sorted(set(range(width)) - channels))
            for side, channels in removed.get(name, {}).items()
            for width in (traced.widths[name, side],)
        }
        if kept:
            cuts.append(LayerCut(layer=name, outputs=kept.get("outputs"), inputs=kept.get("inputs")))
    return tuple(cuts)


def _why_whole(group: ChannelGroup, ratio: float, request: PruneRequest) -> KeepReason:
    """Return why a prunable group loses nothing, `ratio` being what was to be removed."""
    given = pattern_ratio(group, request.ratios)
    if (request.ratio if given is None else given) <= 0:
        return KeepReason(ReasonKind.excluded)
    if ratio <= 0:
        return KeepReason(ReasonKind.more_important)
    return KeepReason(ReasonKind.too_narrow, str(request.channel_multiple))


def _unpruned(layer: str, reason: KeepReason) -> UnprunedLayer:
    return UnprunedLayer(layer=layer, reason=phrase(reason), kind=reason.kind.value)


def _changed_rows(before: Cost, after: Cost) -> list[LayerRow]:
    remaining = {layer.name: layer for layer in after.layers}
    return [_row(layer, remaining[layer.name]) for layer in before.layers if layer != remaining[layer.name]]


def _row(before: LayerCost, after: LayerCost) -> LayerRow:
    return LayerRow(
        layer=before.name,
        inputs=(before.inputs, after.inputs),
        outputs=(before.outputs, after.outputs),
        parameters=(before.parameters, after.parameters),
        macs=(before.macs, after.macs),
        moved=(before.elements_moved, after.elements_moved),
    )
