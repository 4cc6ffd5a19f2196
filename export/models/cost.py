"""Parameters, multiply-accumulates and memory traffic of a module and of its layers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from edgeact.export.models.hooks import evaluated, forward_hooks, forward_pre_hooks
from edgeact.precision import Precision

__all__ = ["Cost", "LayerCost", "count_parameters", "measure_cost"]

_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class LayerCost:
    """Cost of one convolution or linear layer per clip, over all its calls."""

    name: str
    inputs: int
    """Input channels."""
    outputs: int
    """Output channels."""
    parameters: int
    macs: int
    elements_moved: int


@dataclass(frozen=True)
class Cost:
    """Cost of one clip."""

    parameters: int
    macs: int
    """Multiply-accumulates of convolutions and matrix products; papers print this number as 'GFLOPs'.

    A product of two computed matrices (self-attention) counts like a product with a weight. A Fourier transform counts
    as matrix products if written so; by `torch.fft` it counts as 5/2 N log2 N per complex transform of N values, half
    of that per real transform. Norms, pooling, activations and sums are not counted.
    """
    elements_moved: int
    """Inputs, weights and outputs of the counted operators, each read or written once; biases are left out."""
    layers: tuple[LayerCost, ...] = ()
    """Convolutions and linear layers, in the order of their first call."""

    def bytes_moved(self, precision: Precision) -> int:
        """Return the memory traffic in bytes if every element has the size of `precision`."""
        return self.elements_moved * _BYTES[precision]


def count_parameters(module: nn.Module) -> int:
    """Count parameters, frozen ones included; buffers are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def measure_cost(module: nn.Module, input_shape: Sequence[int]) -> Cost:
    """Count one forward pass of an input of `input_shape`; on the meta device nothing is computed."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, (_ConvNd, nn.Linear))}
    counter = _Counter()
    with evaluated(module), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter, counter.within(layers):
        module(torch.zeros(tuple(input_shape), device=device))
    return Cost(
        parameters=count_parameters(module),
        macs=sum(macs for macs, _ in counter.counts.values()),
        elements_moved=sum(elements for _, elements in counter.counts.values()),
        layers=tuple(_layer_cost(name, layers[name], *counts) for name, counts in counter.counts.items() if name),
    )


def _layer_cost(name: str, layer: nn.Module, macs: int, elements: int) -> LayerCost:
    weight = layer.get_parameter("weight")
    channels = (
        (layer.in_channels, layer.out_channels) if isinstance(layer, _ConvNd) else (weight.shape[1], weight.shape[0])
    )
    return LayerCost(name, *channels, count_parameters(layer), macs, elements)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # the base is not annotated
    """Counts every operator that multiplies and accumulates, by PyTorch's own formulas."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: dict[str, tuple[int, int]] = {}
        """(multiply-accumulates, elements moved) by layer; by "" outside of layers."""
        self._layer = ""

    @contextlib.contextmanager
    def within(self, layers: Mapping[str, nn.Module]) -> Iterator[None]:
        """Attribute operators to those of `layers` that call them."""

        def enter(name: str, _layer: nn.Module, _inputs: tuple[Tensor, ...]) -> None:
            self._layer = name

        def leave(_name: str, _layer: nn.Module, _inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            self._layer = ""

        with forward_pre_hooks(layers, enter), forward_hooks(layers, leave):
            yield

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        operator = func.overloadpacket
        if operator in flop_registry:
            macs = flop_registry[operator](*args, **(kwargs or {}), out_val=result) // 2
        elif operator in _TRANSFORMS:
            macs = _TRANSFORMS[operator](args, result)
        else:
            return result
        output = result if isinstance(result, Tensor) else result[0]
        moved = [output, *(arg for arg in args if isinstance(arg, Tensor) and arg.ndim > 1)]
        macs_before, moved_before = self.counts.get(self._layer, (0, 0))
        self.counts[self._layer] = macs_before + macs, moved_before + sum(tensor.numel() for tensor in moved)
        return result


def _transform_macs(values: Tensor, axes: Sequence[int]) -> int:
    """Count complex transforms along `axes` as 5 N log2 N operations (Cooley, Tukey), two per multiply-accumulate."""
    return round(2.5 * values.numel() * math.log2(math.prod(values.shape[axis] for axis in axes)))


# A transform from or to real values takes half; its length is that of the real side.
_TRANSFORMS: dict[Any, Callable[[tuple[Any, ...], Tensor], int]] = {
    torch.ops.aten._fft_c2c: lambda args, _result: _transform_macs(args[0], args[1]),
    torch.ops.aten._fft_r2c: lambda args, _result: _transform_macs(args[0], args[1]) // 2,
    torch.ops.aten._fft_c2r: lambda args, result: _transform_macs(result, args[1]) // 2,
}
