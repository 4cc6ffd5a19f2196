"""Remove channels from a module by a plan's cuts alone; neither torch-pruning nor a trace is needed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from edgeact.errors import ModelError
from edgeact.export.models.pruning.plan import LayerCut, Side
from edgeact.export.models.pruning.prunable import CutListener, Prunable

__all__ = ["apply_cuts", "channel_count", "zero_removed_channels"]


def apply_cuts(module: nn.Module, cuts: Iterable[LayerCut]) -> None:
    """Remove channels from the layers of `module` in place.

    Raises ModelError if a cut names a layer that `module` lacks, or one of another width.
    """
    by_layer = {cut.layer: cut for cut in cuts}
    layers = dict(module.named_modules())
    for cut in by_layer.values():
        if cut.layer not in layers:
            raise ModelError(
                f"the pruning plan is of another model: expected a layer '{cut.layer}', got a model without it; "
                "give the name of the model that was pruned"
            )
        with torch.no_grad():
            _cut(layers[cut.layer], cut)
    for name, layer in layers.items():
        if isinstance(layer, CutListener):
            prefix = f"{name}." if name else ""
            layer.layers_cut({key.removeprefix(prefix): cut for key, cut in by_layer.items() if key.startswith(prefix)})


def channel_count(layer: nn.Module, side: Side) -> int | None:
    """Return the number of output or input channels of a convolution, linear layer or batch norm; None for others."""
    if isinstance(layer, _ConvNd):
        return layer.out_channels if side == "outputs" else layer.in_channels
    if isinstance(layer, nn.Linear):
        return layer.out_features if side == "outputs" else layer.in_features
    return layer.num_features if isinstance(layer, _BatchNorm) else None


def zero_removed_channels(module: nn.Module, cuts: Iterable[LayerCut]) -> None:
    """Set to zero, in place, every output channel that `cuts` would remove.

    The pruned module then computes what this one does, unless attention mixes neighboring channels (ECA, EAM).
    """
    for cut in cuts:
        layer = module.get_submodule(cut.layer)
        if cut.outputs is None or not isinstance(layer, (_ConvNd, nn.Linear, _BatchNorm)):
            continue
        removed = sorted(set(range(cut.outputs.before)) - set(cut.outputs.indices))
        with torch.no_grad():
            for parameter in (layer.weight, layer.bias):
                if parameter is not None:
                    parameter[removed] = 0


def _cut(layer: nn.Module, cut: LayerCut) -> None:
    if isinstance(layer, Prunable):
        if cut.outputs:
            layer.remove_channels(cut.outputs)
        return
    inputs, outputs = _kept_indices(layer, cut, "inputs"), _kept_indices(layer, cut, "outputs")
    if isinstance(layer, _ConvNd):
        _cut_conv(layer, inputs, outputs)
    elif isinstance(layer, nn.Linear):
        layer.weight = _select(layer.weight, 0, outputs)
        layer.weight = _select(layer.weight, 1, inputs)
        layer.bias = None if layer.bias is None else _select(layer.bias, 0, outputs)
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, _BatchNorm) and outputs is not None:
        _cut_norm(layer, outputs)


def _cut_conv(layer: _ConvNd, inputs: Tensor | None, outputs: Tensor | None) -> None:
    groups = layer.groups
    if groups == layer.in_channels == layer.out_channels and outputs is not None:  # depthwise: one channel per group
        layer.groups = len(outputs)
    elif groups > 1 and inputs is not None:
        # Each group keeps its own choice of inputs, all groups equally many.
        local = (inputs.reshape(groups, -1) % (layer.in_channels // groups)).to(layer.weight.device)
        rows = layer.weight.detach().chunk(groups)
        layer.weight = nn.Parameter(torch.cat([part[:, kept] for part, kept in zip(rows, local, strict=True)]))
    else:
        layer.weight = _select(layer.weight, 1, inputs)
    layer.weight = _select(layer.weight, 0, outputs)
    layer.bias = None if layer.bias is None else _select(layer.bias, 0, outputs)
    layer.out_channels, layer.in_channels = layer.weight.shape[0], layer.weight.shape[1] * layer.groups


def _cut_norm(layer: _BatchNorm, kept: Tensor) -> None:
    if layer.affine:
        layer.weight, layer.bias = _select(layer.weight, 0, kept), _select(layer.bias, 0, kept)
    if layer.running_mean is not None and layer.running_var is not None:
        layer.running_mean = layer.running_mean[kept.to(layer.running_mean.device)]
        layer.running_var = layer.running_var[kept.to(layer.running_var.device)]
    layer.num_features = len(kept)


def _select(parameter: Tensor, axis: int, kept: Tensor | None) -> nn.Parameter:
    if kept is None and isinstance(parameter, nn.Parameter):
        return parameter
    data = parameter.detach() if kept is None else parameter.detach().index_select(axis, kept.to(parameter.device))
    return nn.Parameter(data, parameter.requires_grad)


def _kept_indices(layer: nn.Module, cut: LayerCut, side: Side) -> Tensor | None:
    kept = cut.outputs if side == "outputs" else cut.inputs
    if kept is None:
        return None
    count = channel_count(layer, side)
    if count is not None and count != kept.before:
        raise ModelError(
            f"the pruning plan is of another model: layer '{cut.layer}' has {count} {side}, expected "
            f"{kept.before}; give the model's name, width and clip size as they were when it was pruned"
        )
    return torch.tensor(kept.indices)
