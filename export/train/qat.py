"""Quantization-aware training: fake quantization of the layers that INT8 will compute.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (2018),
section 3: quantize and dequantize in the forward pass; the gradient passes unchanged inside the range, 0 outside.

    fake_quantize(x) = clip(round_half_to_even(x * (1 / scale)), -127, 127) * scale      in float32

Scales are the exporter's: symmetric, one per input activation (largest magnitude / 127 on the given clips) and one per
output channel of the weight (largest magnitude / 127, computed anew in every forward pass). The export folds the batch
norm that follows a layer into its weight; this multiplies channels and scales alike, so the norm trains as it is.

The product with the reciprocal is PyTorch's operator on CPUs and GPUs. ONNX Runtime divides by the scale, as ONNX
defines; OpenVINO rounds a sum of product and offset. All three agree but for values that float32 hardly tells from a
tie, halfway between two multiples of the scale: these may go to either neighbor (pixels scaled to [-1, 1] with the
scale 1/127.5 are all ties; with 1/127 none is).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgeact.errors import ModelError
from edgeact.export.graph.values import name_of, operand
from edgeact.export.models.hooks import evaluated, forward_pre_hooks
from edgeact.export.quantize.exclusions import float_everywhere

__all__ = ["FakeQuant", "fake_quantized", "int8_layers"]

_QUANTIZED_LAYERS = (nn.Conv3d, nn.Linear)
_LIMIT = 127
_SMALLEST = 1e-8  # largest magnitude of a channel of zeros, which needs a scale, too


@dataclass(frozen=True)
class FakeQuant:
    """The fake quantization that `fake_quantized` applies to a module."""

    layers: tuple[str, ...]
    """Names of the fake-quantized layers."""

    @property
    def digest(self) -> str:
        """Identification in the state of a training: the state is resumed with the same layers fake-quantized."""
        return hashlib.sha256(repr(("fake quantization by parametrization", self.layers)).encode()).hexdigest()


def int8_layers(module: nn.Module, master: ir.Model) -> tuple[str, ...]:
    """Return the names of the 3-D convolutions and linear layers that the exporter quantizes.

    `master` is the module's float graph. Attention gates and spectral layers are excluded, as in the export. Raises
    ModelError if no layer is left.
    """
    excluded = float_everywhere(master)
    weights = [
        name_of(operand(node, 1)).rpartition(".")[0]
        for node in master.graph
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.name not in excluded
    ]
    layers = dict(module.named_modules())
    names = tuple(name for name in dict.fromkeys(weights) if name and isinstance(layers.get(name), _QUANTIZED_LAYERS))
    if not names:
        raise ModelError(f"'{type(module).__name__}': no layer would be computed in INT8; train without --int8")
    return names


@contextlib.contextmanager
def fake_quantized(module: nn.Module, layers: Iterable[str], clips: Iterable[Tensor]) -> Iterator[FakeQuant]:
    """Fake-quantize inputs and weights of `layers` until exit.

    `clips` `(N, 3, T, H, W)` on the module's device give the range of each input. A layer whose inputs are all zero has
    no scale and stays in float. Meanwhile a weight is in the state dict as `NAME.parametrizations.weight.original`.
    """
    targets = {name: module.get_submodule(name) for name in layers}
    scales = {name: limit / _LIMIT for name, limit in _input_limits(module, targets, clips).items() if limit > 0}
    with contextlib.ExitStack() as stack:
        for name, scale in scales.items():
            layer = targets[name]
            stack.callback(layer.register_forward_pre_hook(_quantize_input(scale)).remove)
            parametrize.register_parametrization(layer, "weight", _FakeQuantizedWeight())
            stack.callback(_remove_parametrization, layer)
        yield FakeQuant(tuple(scales))


def _quantize_input(scale: float) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """Return the forward pre-hook that fake-quantizes the first input."""

    def hook(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        quantized = torch.fake_quantize_per_tensor_affine(inputs[0].float(), scale, 0, -_LIMIT, _LIMIT)
        return (quantized, *inputs[1:])

    return hook


class _FakeQuantizedWeight(nn.Module):
    """Parametrization of a weight with output channels first."""

    def forward(self, weight: Tensor) -> Tensor:
        scales = weight.detach().abs().flatten(1).amax(1).clamp(min=_SMALLEST) / _LIMIT
        zero_points = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scales, zero_points, 0, -_LIMIT, _LIMIT)


def _remove_parametrization(layer: nn.Module) -> None:
    """Restore the weight, before the bias: optimizers identify parameters by their order."""
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    bias = dict(layer.named_parameters(recurse=False)).get("bias")
    if bias is not None:
        del layer.bias
        layer.register_parameter("bias", bias)


def _input_limits(module: nn.Module, layers: Mapping[str, nn.Module], clips: Iterable[Tensor]) -> dict[str, float]:
    """Return the largest magnitude of each layer's input on `clips`."""
    limits = dict.fromkeys(layers, 0.0)

    def observe(name: str, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        limits[name] = max(limits[name], float(inputs[0].abs().max()))

    with evaluated(module), torch.no_grad(), forward_pre_hooks(layers, observe):
        for batch in clips:
            module(batch)
    return limits
