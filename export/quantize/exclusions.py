"""Which layers of a graph stay in float in INT8, and why: the target's small-channel rule and the attention gates."""

from __future__ import annotations

from collections.abc import Collection

import onnx

from edgeact.devices import DeviceProfile
from edgeact.export.quantize.exclude_attention import gate_layers
from edgeact.export.quantize.exclude_fft import spectral_layers
from edgeact.export.quantize.tensorrt_rules import int8_exclusion_reason

__all__ = ["float_everywhere", "module_layers", "skip_list"]

_LAYERS = ("Conv", "Gemm", "MatMul")


def skip_list(model: onnx.ModelProto, profile: DeviceProfile) -> dict[str, str]:
    """Layer name -> reason, for every Conv, Gemm and MatMul of `model` that must not be quantized for `profile`.

    Attention: what computes weights of features, by `gates`. Fourier transforms and what stands between them, by
    `spectral`. Small channels: the rule of TensorRT's own optimizer, for GPU targets.
    """
    reasons = float_everywhere(model)
    if profile.family != "cpu":
        reasons = {**_small_channels(model), **reasons}
    return reasons


def float_everywhere(model: onnx.ModelProto) -> dict[str, str]:
    """Layer name -> reason, for the layers that no target quantizes."""
    return gate_layers(model) | spectral_layers(model)


def _small_channels(model: onnx.ModelProto) -> dict[str, str]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    first = model.graph.input[0].name
    reasons = {}
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        reason = int8_exclusion_reason(shapes.get(node.input[1]), group, node.input[0] == first)
        if reason:
            reasons[node.name] = reason
    return reasons


def module_layers(model: onnx.ModelProto, modules: Collection[str]) -> dict[str, str]:
    """Layer name -> reason, for every Conv, Gemm and MatMul whose weights belong to one of PyTorch's `modules`.

    A weight has its parameter's name where the exporter kept it. A layer whose weight has none goes with the layer
    before it in the graph.
    """
    parameters = {tensor.name for tensor in model.graph.initializer if "." in tensor.name}
    found: dict[str, str] = {}
    owner = None
    for node in model.graph.node:
        if node.op_type in _LAYERS:
            named = [name for name in node.input if name in parameters]
            if named:
                owner = next((one for one in modules if named[0].startswith(f"{one}.")), None)
            if owner is not None:
                found[node.name] = f"'{owner}' was asked to stay in float"
    return found
