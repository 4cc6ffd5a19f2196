"""Parameters, multiply-accumulates and memory traffic of a module."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from edgeact.records import Precision

__all__ = ["Cost", "count_parameters", "measure_cost"]

_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class Cost:
    """What one clip costs."""

    parameters: int
    macs: int
    """Multiply-accumulates of convolutions and matrix products; papers print this number as 'GFLOPs'.

    A product of two computed matrices (self-attention) counts as one with a weight does. A Fourier transform counts as
    what it is computed by: as matrix products where it is written so, as 5/2 N log2 N a complex transform of N values,
    half of that a real one, where `torch.fft` does it. Norms, pooling, activations and sums are not counted.
    """
    elements_moved: int
    """What those multiply and give, each read or written once; biases are left out."""

    def bytes_moved(self, precision: Precision) -> int:
        """Memory traffic if every element has the precision's own size."""
        return self.elements_moved * _BYTES[precision]


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, frozen ones included; buffers are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def measure_cost(module: nn.Module, input_shape: Sequence[int]) -> Cost:
    """Count one forward pass of an input of `input_shape`; on the meta device nothing is computed."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    training = module.training
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _Counter() as counter:
            module.eval()(torch.zeros(tuple(input_shape), device=device))
    finally:
        module.train(training)
    return Cost(count_parameters(module), counter.macs, counter.moved)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # the base is not annotated
    """Counts every operator that multiplies and adds up, by PyTorch's own formulas."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0
        self.moved = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        operator = func.overloadpacket
        if operator in flop_registry:
            self.macs += flop_registry[operator](*args, **(kwargs or {}), out_val=result) // 2
        elif operator in _TRANSFORMS:
            self.macs += _TRANSFORMS[operator](args, result)
        else:
            return result
        outputs = result if isinstance(result, Tensor) else result[0]
        moved = [outputs, *(arg for arg in args if isinstance(arg, Tensor) and arg.ndim > 1)]
        self.moved += sum(tensor.numel() for tensor in moved)
        return result


def _transform(values: Tensor, axes: Sequence[int]) -> int:
    """Of complex transforms along `axes`: 5 N log2 N operations each (Cooley, Tukey), two to a multiply-accumulate."""
    return round(2.5 * values.numel() * math.log2(math.prod(values.shape[axis] for axis in axes)))


# A transform from or to real values takes half; the real side is the one that has the length.
_TRANSFORMS: dict[Any, Callable[[tuple[Any, ...], Tensor], int]] = {
    torch.ops.aten._fft_c2c: lambda args, _result: _transform(args[0], args[1]),
    torch.ops.aten._fft_r2c: lambda args, _result: _transform(args[0], args[1]) // 2,
    torch.ops.aten._fft_c2r: lambda args, result: _transform(result, args[1]) // 2,
}
