"""Parameters, multiply-accumulates and memory traffic of a module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgeact.records import Precision

__all__ = ["Cost", "count_parameters", "measure_cost"]

_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}
_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True)
class Cost:
    """What one clip costs."""

    parameters: int
    macs: int
    """Multiply-accumulates of convolutions and linear layers; papers print this number as 'GFLOPs'."""
    elements_moved: int
    """Inputs, weights and outputs of those layers, each read or written once."""

    def bytes_moved(self, precision: Precision) -> int:
        """Memory traffic if every element has the precision's own size."""
        return self.elements_moved * _BYTES[precision]


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, frozen ones included; buffers are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def measure_cost(module: nn.Module, input_shape: Sequence[int]) -> Cost:
    """Count one forward pass of an input of `input_shape`."""
    macs = moved = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs, moved
        weight = layer.get_parameter("weight")
        macs += output.numel() * math.prod(weight.shape[1:])
        moved += inputs[0].numel() + weight.numel() + output.numel()

    handles = [layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, _WEIGHTED)]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(tuple(input_shape)))
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return Cost(count_parameters(module), macs, moved)
