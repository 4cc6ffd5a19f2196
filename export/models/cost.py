"""Parameters and multiply-accumulates of a module."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["count_macs", "count_parameters"]


def count_parameters(module: nn.Module) -> int:
    """Number of trainable and frozen parameters; buffers are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, input_shape: Sequence[int]) -> int:
    """Multiply-accumulates of convolutions and linear layers for one input of `input_shape`.

    Papers print this number as 'GFLOPs'.
    """
    total = 0

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor)
        per_output = math.prod(weight.shape[1:])
        total += output.numel() * per_output

    weighted = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    handles = [layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, weighted)]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(tuple(input_shape)))
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return total
