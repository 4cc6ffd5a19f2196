"""Small ONNX graphs that TensorRT releases support or refuse for a single reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import DTypeLike, NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgeact.devices import TensorRtDialect, load_profile
from edgeact.export.graph.proto import from_proto

__all__ = ["Conv", "conv", "conv_proto", "dialect", "graph", "graph_proto", "node"]

Constants = dict[str, Any]  # values that np.asarray converts
Dim = int | str


def dialect(board: str, name: str) -> TensorRtDialect:
    """Return a TensorRT release of a board profile by name."""
    return next(entry for entry in load_profile(board).tensorrt if entry.name == name)


def node(op_type: str, inputs: Sequence[str], outputs: Sequence[str], name: str = "", **attributes: Any) -> NodeProto:
    """Return a node, by default named after its operator."""
    return helper.make_node(op_type, inputs, outputs, name=name or f"the_{op_type}", **attributes)


def graph(nodes: Sequence[NodeProto], constants: Constants | None = None, **options: Any) -> ir.Model:
    """Return a model with input 'x' and output 'y', see `graph_proto`."""
    return from_proto(graph_proto(nodes, constants, **options))


def graph_proto(
    nodes: Sequence[NodeProto],
    constants: Constants | None = None,
    *,
    shape: Sequence[Dim] = (1, 16, 4, 8, 8),
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Return a model with input 'x' of the given shape and output 'y' of the inferred shape."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    body = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", dtype, list(shape))],
        [helper.make_tensor_value_info("y", dtype, None)],
        tensors,
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    inferred = onnx.shape_inference.infer_shapes(model)
    model.graph.output[0].CopyFrom(inferred.graph.output[0])
    return model


@dataclass(frozen=True)
class Conv:
    """A 3-D convolution, optionally with valid or invalid quantization."""

    inputs: int = 16
    outputs: int = 16
    kernel: tuple[int, int, int] = (3, 3, 3)
    group: int = 1
    quantized: bool = False
    zero_point: int = 0
    integer: DTypeLike = np.int8
    int32_bias: bool = False
    activation_scale: Any = 0.05
    weight_axis: int = 0
    dtype: DTypeLike = np.float32
    opset: int = 17
    shape: tuple[Dim, ...] | None = None
    stem: bool = True
    """Whether the convolution reads the graph's input; otherwise a ReLU does."""


def conv(spec: Conv) -> ir.Model:
    """Return the convolution as a model; its node is named 'the_conv'."""
    return from_proto(conv_proto(spec))


def conv_proto(spec: Conv) -> onnx.ModelProto:
    """Return the convolution as an ONNX protobuf, see `conv`."""
    weight = np.random.default_rng(0).normal(0, 0.05, (spec.outputs, spec.inputs // spec.group, *spec.kernel))
    constants: Constants = {"w": weight.astype(spec.dtype)}
    nodes = [] if spec.stem else [node("Relu", ["x"], ["r"])]
    data, kernel, *bias = "x" if spec.stem else "r", "w"
    if spec.quantized:
        constants = _quantization(spec, weight)
        nodes += [
            node("QuantizeLinear", [data, "x_scale", "x_zero"], ["x_int8"], "the_quantizer"),
            node("DequantizeLinear", ["x_int8", "x_scale", "x_zero"], ["x_back"], "the_dequantizer"),
            node("DequantizeLinear", ["w_int8", "w_scale", "w_zero"], ["w"], "the_weight", axis=spec.weight_axis),
        ]
        data = "x_back"
    if spec.int32_bias:
        constants |= {
            "b_int32": np.zeros(spec.outputs, np.int32),
            "b_scale": np.full(spec.outputs, 1e-4, spec.dtype),
            "b_zero": np.zeros(spec.outputs, np.int32),
        }
        nodes.append(node("DequantizeLinear", ["b_int32", "b_scale", "b_zero"], ["b"], "the_bias", axis=0))
        bias = ["b"]
    pads = [side // 2 for side in spec.kernel] * 2
    attributes = {"kernel_shape": list(spec.kernel), "pads": pads, "group": spec.group}
    nodes.append(node("Conv", [data, kernel, *bias], ["y"], "the_conv", **attributes))
    return graph_proto(
        nodes,
        constants,
        shape=spec.shape or (1, spec.inputs, 4, 8, 8),
        opset=spec.opset,
        dtype=helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)),
    )


def _quantization(spec: Conv, weight: NDArray[np.float64]) -> Constants:
    scale = np.asarray(spec.activation_scale, spec.dtype)
    count = weight.shape[spec.weight_axis]
    return {
        "x_scale": scale,
        "x_zero": np.full(scale.shape, spec.zero_point, spec.integer),
        "w_int8": np.clip(np.round(weight / 0.002), -127, 127).astype(np.int8),
        "w_scale": np.full(count, 0.002, spec.dtype),
        "w_zero": np.zeros(count, np.int8),
    }
