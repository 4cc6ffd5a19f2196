"""Layers that INT8 keeps in float, with reasons: attention gates, spectra, and small channels on GPUs."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from edgeact.devices import DeviceProfile
from edgeact.export.graph.values import given_inputs, name_of, operand, static_dims
from edgeact.export.quantize.exclude_attention import gate_layers
from edgeact.export.quantize.exclude_fft import spectral_layers
from edgeact.export.quantize.tensorrt_rules import int8_exclusion_reason
from edgeact.layer_reasons import FloatReason, KeptOnRequest

__all__ = ["float_everywhere", "module_layers", "target_exclusions"]

_LAYERS = ("Conv", "Gemm", "MatMul")


def target_exclusions(model: ir.Model, profile: DeviceProfile) -> dict[str, FloatReason]:
    """Return layer name -> reason, for every Conv, Gemm and MatMul of `model` to keep in float for `profile`.

    Attention gates: see `exclude_attention`. Fourier transforms and layers between them: see `exclude_fft`. Small
    channels, on GPU targets: see `tensorrt_rules`.
    """
    reasons = float_everywhere(model)
    if profile.family != "cpu":
        reasons = {**_small_channels(model), **reasons}
    return reasons


def float_everywhere(model: ir.Model) -> dict[str, FloatReason]:
    """Return layer name -> reason, for the layers that no target quantizes."""
    return {**gate_layers(model), **spectral_layers(model)}


def _small_channels(model: ir.Model) -> dict[str, FloatReason]:
    first = model.graph.inputs[0]
    reasons: dict[str, FloatReason] = {}
    for node in model.graph:
        if node.op_type == "Conv":
            weight = operand(node, 1)
            dims = static_dims(weight) if weight.is_initializer() else None
            reason = int8_exclusion_reason(dims, node.attributes.get_int("group", 1), operand(node, 0) is first)
            if reason:
                reasons[name_of(node)] = reason
    return reasons


def module_layers(model: ir.Model, modules: Collection[str]) -> dict[str, FloatReason]:
    """Return layer name -> reason, for every Conv, Gemm and MatMul with weights of a PyTorch module of `modules`.

    If the exporter kept it, a weight has the name of its parameter. Without a name, a layer counts to the module of the
    layer before it in the graph.
    """
    layers: dict[str, FloatReason] = {}
    owner = None
    for node in model.graph:
        if node.op_type in _LAYERS:
            weights = [name_of(value) for value in given_inputs(node) if value.is_initializer()]
            parameter = next((name for name in weights if "." in name), None)
            if parameter:
                owner = next((module for module in modules if parameter.startswith(f"{module}.")), None)
            if owner is not None:
                layers[name_of(node)] = KeptOnRequest(module=owner)
    return layers
