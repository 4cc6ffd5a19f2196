"""Which layers of a graph stay in float in INT8, and why: the target's small-channel rule and the attention gates."""

from __future__ import annotations

import onnx

from edgeact.devices import DeviceProfile
from edgeact.export.quantize.policy import int8_exclusion_reason

__all__ = ["skip_list"]

_GATES = ("Sigmoid", "Softmax")
_PASSED = ("Relu", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Add", "Mul")


def skip_list(model: onnx.ModelProto, profile: DeviceProfile) -> dict[str, str]:
    """Layer name -> reason, for every Conv, Gemm and MatMul of `model` that must not be quantized for `profile`.

    Attention gates: a linear layer, or a convolution to one map, that leads to a sigmoid or softmax costs no time and
    scales every feature behind it. Small channels: the rule of TensorRT's own optimizer, for GPU targets.
    """
    reasons = _gates(model)
    if profile.family != "cpu":
        reasons = {**_small_channels(model), **reasons}
    return reasons


def _gates(model: onnx.ModelProto) -> dict[str, str]:
    producers = {output: node for node in model.graph.node for output in node.output}
    results = {value.name for value in model.graph.output}  # scores, not gates
    outputs = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) > 2}
    reasons: dict[str, str] = {}
    gates = [node for node in model.graph.node if node.op_type in _GATES and node.output[0] not in results]
    open_names = [node.input[0] for node in gates]
    while open_names:
        node = producers.get(open_names.pop())
        if node is None:
            continue
        is_linear = node.op_type in ("Gemm", "MatMul")
        if is_linear or (node.op_type == "Conv" and outputs.get(node.input[1]) == 1):
            reasons[node.name] = "attention gate: it scales all features behind it and takes no time in float"
        if is_linear or node.op_type in _PASSED:
            open_names.append(node.input[0])
    return reasons


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
