"""From a module and a wish to a plan, and from a plan to a pruned module."""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from edgeact.errors import ModelError, UsageError
from edgeact.export.models.cost import measure_cost
from edgeact.export.models.pruning.apply import apply_cuts
from edgeact.export.models.pruning.plan import (
    IMPORTANCES,
    Importance,
    KeptChannels,
    LayerCut,
    LayerRow,
    PruningPlan,
    Scope,
    UnprunedLayer,
)
from edgeact.export.prune.importance import score_families
from edgeact.export.prune.select import Bounds, Chosen, choose, wanted_globally
from edgeact.export.prune.trace import ChannelGroup, GroupKey, Side, Traced, trace

__all__ = ["PruneRequest", "apply_plan", "group_sizes", "plan_pruning"]

_TOLD_TO_STAY = "asked to stay"
_ONE_MULTIPLE = "too few channels for the next lower multiple of {}"
_MATTERS = "all of its channels matter more than those that go elsewhere"


@dataclass(frozen=True)
class PruneRequest:
    """How much is to go, and by what measure."""

    ratio: float = 0.5
    """Share of prunable channels to take out, within [0, 1)."""
    scope: Scope = "layer"
    """layer: this share of every layer; global: of all channels together, wherever the least important are."""
    ratios: Mapping[str, float] = field(default_factory=dict)
    """Shares of layers by name pattern ('stages.0.*'), the first that fits a layer whose channels hang together; 0
    leaves them alone."""
    importance: Importance = "l2"
    channel_multiple: int = 1
    """Widths come to multiples of it; a profile's `channel_multiple_int8` or `channel_multiple_fp16`."""
    max_ratio: float = 0.9
    """Largest share that goes of what hangs together, whatever the scope says."""
    original_sizes: Mapping[GroupKey, int] = field(default_factory=dict)
    """What all shares are meant of, by `group_sizes` of the module before it was pruned in earlier steps: so steps come
    to the widths that one step would have come to. What is not in it is meant as it is."""

    def __post_init__(self) -> None:
        for name, ratio in (("ratio", self.ratio), *self.ratios.items()):
            if not 0 <= ratio < 1:
                raise UsageError(f"expected a pruning ratio within [0, 1), got {ratio:g} for '{name}'")
        if self.channel_multiple < 1 or not 0 < self.max_ratio < 1:
            raise UsageError(
                "expected a channel multiple of at least 1 and a largest share within (0, 1), got "
                f"{self.channel_multiple} and {self.max_ratio:g}"
            )
        if self.importance not in IMPORTANCES or self.scope not in ("layer", "global"):
            raise UsageError(
                f"expected an importance of {', '.join(IMPORTANCES)} and a scope of layer or global, got "
                f"'{self.importance}' and '{self.scope}'"
            )


def plan_pruning(
    module: nn.Module, input_shape: Sequence[int], request: PruneRequest | None = None, weights_sha256: str = ""
) -> PruningPlan:
    """What to take out of `module`, which is only looked at; `input_shape` is a clip's, `(1, 3, T, H, W)`.

    What cannot be pruned is in the plan's `skipped`, with the reason. Raises UsageError for a pattern in `ratios` that
    fits no layer, ModelError where the module cannot be traced.
    """
    wanted = request or PruneRequest()
    traced = trace(module, input_shape)
    families, skipped = traced.families, dict(traced.skipped)
    scores = score_families(module, traced, wanted.importance)
    shares = _shares(families, scores, wanted)
    bounds = Bounds(wanted.channel_multiple, wanted.max_ratio)
    chosen = choose(families, scores, shares, traced.widths, bounds)
    cuts = _cuts(module, traced, chosen)
    after = _tried(module, input_shape, cuts)
    if isinstance(after, str):
        chosen = _workable(module, input_shape, traced, chosen, skipped)
        cuts = _cuts(module, traced, chosen)
        after = _tried(module, input_shape, cuts)
    if isinstance(after, str):
        raise ModelError(f"no part of this model can be pruned together with the others: {after}")
    before = _measured(module, input_shape, ())
    _tell_what_stays(module, families, chosen, shares, wanted, skipped)
    changed = {cut.layer for cut in cuts if cut.outputs}
    return PruningPlan(
        input_shape=tuple(input_shape),
        ratio=wanted.ratio,
        ratios=dict(wanted.ratios),
        scope=wanted.scope,
        importance=wanted.importance,
        channel_multiple=wanted.channel_multiple,
        weights_sha256=weights_sha256,
        parameters=(before.parameters, after.parameters),
        macs=(before.macs, after.macs),
        moved=(before.moved, after.moved),
        rows=tuple(_row(name, before.layers[name], after.layers[name]) for name in _differing(before, after)),
        skipped=tuple(
            UnprunedLayer(layer=name, reason=skipped[name]) for name in sorted(skipped) if name not in changed
        ),
        cuts=cuts,
    )


def _tell_what_stays(
    module: nn.Module,
    families: Sequence[ChannelGroup],
    chosen: Sequence[Chosen],
    shares: Sequence[float],
    request: PruneRequest,
    skipped: dict[str, str],
) -> None:
    for family, mask, share in zip(families, chosen, shares, strict=True):
        if not mask.all():
            continue
        reason = _MATTERS if share <= 0 else _ONE_MULTIPLE.format(request.channel_multiple)
        own = _own_ratio(family, request.ratios)
        if (request.ratio if own is None else own) <= 0:
            reason = _TOLD_TO_STAY
        for member in family.members:
            if member.side == "outputs" and isinstance(module.get_submodule(member.layer), (_ConvNd, nn.Linear)):
                skipped.setdefault(member.layer, reason)


def apply_plan(module: nn.Module, plan: PruningPlan) -> None:
    """Take out of `module`, in place, what `plan` says; ModelError where it was made for another module."""
    apply_cuts(module, plan.cuts)


def group_sizes(module: nn.Module, input_shape: Sequence[int]) -> dict[GroupKey, int]:
    """How many channels, or groups of them, could be taken out one by one; by what they hang on."""
    return {family.key: family.size for family in trace(module, input_shape).families}


def _shares(families: Sequence[ChannelGroup], scores: Sequence[np.ndarray], request: PruneRequest) -> list[float]:
    """Which share of what each family has left is to go."""
    left = [family.size / request.original_sizes.get(family.key, family.size) for family in families]
    shares = _shares_of_all(families, scores, left, request)
    return [_of_the_rest(min(share, request.max_ratio), part) for share, part in zip(shares, left, strict=True)]


def _of_the_rest(share: float, left: float) -> float:
    """A share of the whole as a share of what is left of it."""
    return share if left == 1 else max(1 - (1 - share) / left, 0.0)


def _shares_of_all(
    families: Sequence[ChannelGroup], scores: Sequence[np.ndarray], left: Sequence[float], request: PruneRequest
) -> list[float]:
    """Which share of each family, as it was in the beginning, is to be gone."""
    own = [_own_ratio(family, request.ratios) for family in families]
    known = {member.layer for family in families for member in family.members}
    for pattern in request.ratios:
        if not fnmatch.filter(known, pattern):
            raise UsageError(f"no layer that can be pruned is called '{pattern}'; see the plan's skipped layers")
    if request.scope == "layer":
        return [request.ratio if ratio is None else ratio for ratio in own]
    free = [index for index, ratio in enumerate(own) if ratio is None]
    sizes = {index: len(scores[index]) for index in free}
    total, there = sum(size / left[index] for index, size in sizes.items()), sum(sizes.values())
    ratio = _of_the_rest(request.ratio, there / total) if free else 0.0
    going = dict(zip(free, wanted_globally([scores[index] for index in free], ratio), strict=True))
    shares = {index: 1 - (1 - share) * left[index] for index, share in going.items()}
    return [shares[index] if ratio is None else ratio for index, ratio in enumerate(own)]


def _own_ratio(family: ChannelGroup, ratios: Mapping[str, float]) -> float | None:
    layers = [member.layer for member in family.members if member.side == "outputs"]
    return next((ratio for pattern, ratio in ratios.items() if fnmatch.filter(layers, pattern)), None)


def _cuts(module: nn.Module, traced: Traced, chosen: Sequence[Chosen]) -> tuple[LayerCut, ...]:
    """What goes of every layer, in the module's order."""
    gone: dict[str, dict[Side, set[int]]] = {}
    for family, mask in zip(traced.families, chosen, strict=True):
        for member in family.members if not mask.all() else ():
            sides = gone.setdefault(member.layer, {})
            sides.setdefault(member.side, set()).update(member.slots[~mask].ravel().tolist())
    cuts = []
    for name, _ in module.named_modules():
        kept = {
            side: KeptChannels.of(width, sorted(set(range(width)) - out))
            for side, out in gone.get(name, {}).items()
            for width in (traced.widths[name, side],)
        }
        if kept:
            cuts.append(LayerCut(layer=name, outputs=kept.get("outputs"), inputs=kept.get("inputs")))
    return tuple(cuts)


def _workable(
    module: nn.Module,
    input_shape: Sequence[int],
    traced: Traced,
    chosen: list[Chosen],
    skipped: dict[str, str],
) -> list[Chosen]:
    """`chosen`, without what a user's module turns out not to run without: a size that its code has written down."""
    able = list(chosen)
    for index, (family, mask) in enumerate(zip(traced.families, chosen, strict=True)):
        alone = _cuts(module, replace(traced, families=(family,)), [mask])
        error = _tried(module, input_shape, alone) if alone else None
        if isinstance(error, str):
            able[index] = np.ones(family.size, bool)
            layers = [member.layer for member in family.members if member.side == "outputs"]
            skipped.update(dict.fromkeys(layers, f"the model does not run without any of them: {error}"))
    return able


def _tried(module: nn.Module, input_shape: Sequence[int], cuts: Sequence[LayerCut]) -> _Measured | str:
    """What the module costs without those channels, or why it fails."""
    try:
        return _measured(module, input_shape, cuts)
    except Exception as error:  # whatever the user's code raises
        return (str(error).splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True)
class _Layer:
    inputs: int
    outputs: int
    parameters: int
    macs: int
    moved: int


@dataclass(frozen=True)
class _Measured:
    parameters: int
    macs: int
    moved: int
    layers: dict[str, _Layer]


def _measured(module: nn.Module, input_shape: Sequence[int], cuts: Sequence[LayerCut]) -> _Measured:
    """What the module costs without those channels; where it can be, without computing anything."""
    try:
        return _counted(copy.deepcopy(module).to("meta"), input_shape, cuts)
    except (NotImplementedError, RuntimeError):  # code that looks at values, or constants of its own on the CPU
        return _counted(copy.deepcopy(module), input_shape, cuts)


def _counted(network: nn.Module, input_shape: Sequence[int], cuts: Sequence[LayerCut]) -> _Measured:
    apply_cuts(network, cuts)
    layers: dict[str, _Layer] = {}

    def count(name: str, layer: nn.Module, inputs_given: tuple[Tensor, ...], output: Tensor) -> None:
        if not isinstance(layer, (_ConvNd, nn.Linear)):
            return
        outputs = layer.out_channels if isinstance(layer, _ConvNd) else layer.out_features
        inputs = layer.in_channels if isinstance(layer, _ConvNd) else layer.in_features
        macs = output.numel() // outputs * layer.weight.numel() + (layers[name].macs if name in layers else 0)
        moved = sum(tensor.numel() for tensor in (*inputs_given, layer.weight, output))
        moved += layers[name].moved if name in layers else 0
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        layers[name] = _Layer(inputs, outputs, parameters, macs, moved)

    for name, layer in network.named_modules():
        layer.register_forward_hook(lambda layer, given, output, name=name: count(name, layer, given, output))
    cost = measure_cost(network, input_shape)
    return _Measured(cost.parameters, cost.macs, cost.elements_moved, layers)


def _differing(before: _Measured, after: _Measured) -> list[str]:
    return [name for name, layer in before.layers.items() if layer != after.layers[name]]


def _row(name: str, before: _Layer, after: _Layer) -> LayerRow:
    return LayerRow(
        layer=name,
        inputs=(before.inputs, after.inputs),
        outputs=(before.outputs, after.outputs),
        parameters=(before.parameters, after.parameters),
        macs=(before.macs, after.macs),
        moved=(before.moved, after.moved),
    )
