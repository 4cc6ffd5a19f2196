"""Training that knows of INT8: the layers that INT8 will take compute with rounded inputs and weights meanwhile.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (2018),
section 3: rounding in the forward pass, gradients as if it were not there. Steps are those of the exporter: symmetric,
one for a layer's input, one for every output channel of its weights. A batch norm behind a layer, folded later, scales
its channels and their steps alike, so it can train on as it is.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeact.errors import ModelError
from edgeact.export.graph.values import name_of, operand
from edgeact.export.models.hooks import evaluated, forward_pre_hooks
from edgeact.export.quantize.exclusions import float_everywhere

__all__ = ["int8_layers", "rounding"]

_LIMIT = 127
_SMALLEST = 1e-8  # a channel of zeros has a step, too


def int8_layers(module: nn.Module, master: ir.Model) -> tuple[str, ...]:
    """Names of the 3-D convolutions and linear layers that the exporter quantizes: not of attention gates and spectra.

    `master` is the module's graph. ModelError where there are none.
    """
    skipped = float_everywhere(master)
    weights = [
        name_of(operand(node, 1)).rpartition(".")[0]
        for node in master.graph
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.name not in skipped
    ]
    layers = dict(module.named_modules())
    found = tuple(dict.fromkeys(name for name in weights if name and _forward_of(layers.get(name)) is not None))
    if not found:
        raise ModelError("no layer of this model would be computed in INT8; train it in float")
    return found


@contextlib.contextmanager
def rounding(module: nn.Module, layers: Iterable[str], clips: Iterable[Tensor]) -> Iterator[None]:
    """While this is open, `layers` round to INT8 what they read and their weights; the state dict stays as it is.

    `clips` `(N, 3, T, H, W)` on the module's device give the largest input of each layer, which decides its step.
    """
    chosen = {name: module.get_submodule(name) for name in layers}
    largest = _largest_inputs(module, chosen, clips)
    for name, layer in chosen.items():
        product = _forward_of(layer)
        if product is not None and largest[name] > 0:
            step = largest[name] / _LIMIT
            layer.forward = functools.partial(_rounded, layer, product, step)
    try:
        yield
    finally:
        for layer in chosen.values():
            vars(layer).pop("forward", None)


Product = Callable[[nn.Module, Tensor, Tensor], Tensor]


def _forward_of(layer: nn.Module | None) -> Product | None:
    """What the layer does with its input and a weight; None for what is never quantized."""
    if isinstance(layer, nn.Linear):
        return _linear
    if isinstance(layer, nn.Conv3d) and layer.padding_mode == "zeros":
        return _convolution
    return None


def _linear(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    assert isinstance(layer, nn.Linear)
    return functional.linear(x, weight, layer.bias)


def _convolution(layer: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    assert isinstance(layer, nn.Conv3d)
    return functional.conv3d(x, weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _rounded(layer: nn.Module, product: Product, step: float, x: Tensor) -> Tensor:
    weight = layer.get_parameter("weight")
    steps = weight.detach().abs().flatten(1).amax(1).clamp(min=_SMALLEST) / _LIMIT
    zeros = torch.zeros_like(steps, dtype=torch.int32)
    rounded = torch.fake_quantize_per_channel_affine(weight, steps, zeros, 0, -_LIMIT, _LIMIT)
    return product(layer, torch.fake_quantize_per_tensor_affine(x.float(), step, 0, -_LIMIT, _LIMIT), rounded)


def _largest_inputs(module: nn.Module, layers: dict[str, nn.Module], clips: Iterable[Tensor]) -> dict[str, float]:
    largest = dict.fromkeys(layers, 0.0)

    def observe(name: str, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        largest[name] = max(largest[name], float(inputs[0].abs().max()))

    with evaluated(module), torch.no_grad(), forward_pre_hooks(layers, observe):
        for batch in clips:
            module(batch)
    return largest
