"""Taking channels out of a module, by a plan's cuts alone: what the graph said is in them already."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from edgeact.errors import ModelError
from edgeact.export.models.attention.fsam import Fam, Sam
from edgeact.export.models.attention.se import SqueezeExcitation
from edgeact.export.models.backbones.msf import MultiLevelSplit
from edgeact.export.models.pruning.plan import KeptChannels, LayerCut

__all__ = ["apply_cuts", "zero_removed_channels"]


def apply_cuts(module: nn.Module, cuts: Iterable[LayerCut]) -> None:
    """Shrink the layers of `module` in place; ModelError where a cut is of another module."""
    by_layer = {cut.layer: cut for cut in cuts}
    layers = dict(module.named_modules())
    for cut in by_layer.values():
        if cut.layer not in layers:
            raise ModelError(f"the pruning plan names a layer '{cut.layer}' that this model does not have")
        with torch.no_grad():
            _cut(layers[cut.layer], cut)
    for name, layer in layers.items():
        if isinstance(layer, MultiLevelSplit):
            _recount_carries(layer, name, by_layer)


def _cut(layer: nn.Module, cut: LayerCut) -> None:
    inputs, outputs = _indices(layer, cut, "inputs"), _indices(layer, cut, "outputs")
    if isinstance(layer, _ConvNd):
        _cut_conv(layer, inputs, outputs)
    elif isinstance(layer, nn.Linear):
        layer.weight = _picked(layer.weight, 0, outputs)
        layer.weight = _picked(layer.weight, 1, inputs)
        layer.bias = None if layer.bias is None else _picked(layer.bias, 0, outputs)
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, _BatchNorm):
        _cut_norm(layer, outputs)
    elif isinstance(layer, Fam) and outputs is not None:
        each = len(layer.basis) // len(layer.pairs)
        layer.pairs = tuple(layer.pairs[index // each] for index in outputs.tolist())
        layer.basis = layer.basis[outputs.to(layer.basis.device)]
    elif cut.outputs:
        # What they see is a mean over channels: of those that stay it is larger by this factor.
        share = len(cut.outputs.indices) / cut.outputs.before
        if isinstance(layer, Sam):
            layer.conv.weight[:, 1] *= share
        elif isinstance(layer, SqueezeExcitation) and layer.along == "frames":
            layer.get_parameter("fc.0.weight").mul_(share)


def _cut_conv(layer: _ConvNd, inputs: Tensor | None, outputs: Tensor | None) -> None:
    groups = layer.groups
    if groups == layer.in_channels == layer.out_channels and outputs is not None:  # depthwise: a group a channel
        layer.groups = len(outputs)
    elif groups > 1 and inputs is not None:
        # Each group has its own choice of inputs, as many as every other.
        local = (inputs.reshape(groups, -1) % (layer.in_channels // groups)).to(layer.weight.device)
        rows = layer.weight.detach().chunk(groups)
        layer.weight = nn.Parameter(torch.cat([part[:, own] for part, own in zip(rows, local, strict=True)]))
    else:
        layer.weight = _picked(layer.weight, 1, inputs)
    layer.weight = _picked(layer.weight, 0, outputs)
    layer.bias = None if layer.bias is None else _picked(layer.bias, 0, outputs)
    layer.out_channels, layer.in_channels = layer.weight.shape[0], layer.weight.shape[1] * layer.groups


def _cut_norm(layer: _BatchNorm, outputs: Tensor | None) -> None:
    if outputs is None:
        return
    if layer.affine:
        layer.weight, layer.bias = _picked(layer.weight, 0, outputs), _picked(layer.bias, 0, outputs)
    if layer.running_mean is not None and layer.running_var is not None:
        layer.running_mean = layer.running_mean[outputs.to(layer.running_mean.device)]
        layer.running_var = layer.running_var[outputs.to(layer.running_var.device)]
    layer.num_features = len(outputs)


def _picked(parameter: Tensor, axis: int, kept: Tensor | None) -> nn.Parameter:
    if kept is None and isinstance(parameter, nn.Parameter):
        return parameter
    data = parameter.detach() if kept is None else parameter.detach().index_select(axis, kept.to(parameter.device))
    return nn.Parameter(data, parameter.requires_grad)


def _indices(layer: nn.Module, cut: LayerCut, side: str) -> Tensor | None:
    kept: KeptChannels | None = getattr(cut, side)
    if kept is None:
        return None
    width = _width(layer, side)
    if width is not None and width != kept.before:
        raise ModelError(
            f"the pruning plan is of another model: layer '{cut.layer}' has {width} {side}, expected "
            f"{kept.before}; give the model's name, width and clip size as they were when it was pruned"
        )
    return torch.tensor(kept.indices)


def _width(layer: nn.Module, side: str) -> int | None:
    if isinstance(layer, _ConvNd):
        return layer.out_channels if side == "outputs" else layer.in_channels
    if isinstance(layer, nn.Linear):
        return layer.out_features if side == "outputs" else layer.in_features
    if isinstance(layer, _BatchNorm):
        return layer.num_features
    return len(layer.basis) if isinstance(layer, Fam) else None


def _recount_carries(layer: MultiLevelSplit, name: str, cuts: dict[str, LayerCut]) -> None:
    """A branch feeds on its last channels: as many as are left of those."""
    for index, carried in enumerate(layer.carries):
        cut = cuts.get(f"{name}.branches.{index}.0")
        if cut and cut.outputs:
            layer.carries[index] = sum(kept >= cut.outputs.before - carried for kept in cut.outputs.indices)


def zero_removed_channels(module: nn.Module, cuts: Iterable[LayerCut]) -> None:
    """Make zero, in place, every channel that `cuts` would take out.

    The pruned module computes what this one does, but for attention that looks at neighbouring channels (ECA, EAM).
    """
    for cut in cuts:
        layer = module.get_submodule(cut.layer)
        if cut.outputs is None or not isinstance(layer, (_ConvNd, nn.Linear, _BatchNorm)):
            continue
        gone = sorted(set(range(cut.outputs.before)) - set(cut.outputs.indices))
        with torch.no_grad():
            for parameter in (layer.weight, layer.bias):
                if parameter is not None:
                    parameter[gone] = 0
