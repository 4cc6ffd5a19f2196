"""Small INT8 graphs as operations and as programs, against ONNX Runtime; and the reason why a layer is not lowered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, get_args

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from onnx import NodeProto

from edgeact.export.cpu.native.compiler import compile_model
from edgeact.export.cpu.native.ir import (
    BinaryOp,
    ConvOp,
    DequantizeOp,
    InputOp,
    Op,
    PoolOp,
    QuantizeOp,
    ReduceOp,
    UnaryOp,
)
from edgeact.export.cpu.native.lower import lower
from edgeact.export.cpu.native.refusals import Layer, NotLoweredError
from edgeact.native_requirements import NativeRequirement, UnsupportedLayer
from tests.export.cpu.native.making import CLIPS, SAME_SIZE, SHAPE, STEM, head, int8_network
from tests.export.graph.graphs import graph, node
from tests.export.graph.passes.running import run as run_onnx
from tests.runtime.native.making import ISAS, NEEDS_ENGINE, run

AnyOp = TypeVar("AnyOp", bound=Op)


def _ops(model: ir.Model, kind: type[AnyOp]) -> list[AnyOp]:
    return [op for op in lower(model).ops if isinstance(op, kind)]


def _assert_agrees(model: ir.Model) -> None:
    """Compare with ONNX Runtime by every instruction set; unquantized partial sums may differ slightly."""
    program = compile_model(model)
    for clip in CLIPS:
        expected = run_onnx(model, clip).ravel()
        for isa in ISAS:
            actual = run(program, clip, threads=2, isa=isa)
            assert np.linalg.norm(actual - expected) < 0.02 * np.linalg.norm(expected)


ADDITIONS: dict[str, list[NodeProto]] = {
    "INT8 plus convolution": [
        *STEM,
        node("Conv", ["u", "w1"], ["c"], "second", **SAME_SIZE),
        node("Add", ["u", "c"], ["sum"], "add"),
        node("Relu", ["sum"], ["r"], "relu of the sum"),
        node("Conv", ["r", "w2"], ["last"], "third", **SAME_SIZE),
        *head("last"),
    ],
    "without ReLU": [
        *STEM,
        node("Conv", ["u", "w1"], ["c"], "second", **SAME_SIZE),
        node("Add", ["u", "c"], ["sum"], "add"),
        node("Conv", ["sum", "w2"], ["last"], "third", **SAME_SIZE),
        *head("last"),
    ],
    "two INT8 activations behind ReLUs": [
        *STEM,
        node("Conv", ["u", "w1"], ["c"], "second", **SAME_SIZE),
        node("Relu", ["c"], ["v"], "second relu"),
        node("Add", ["u", "v"], ["sum"], "add"),
        node("Conv", ["sum", "w2"], ["last"], "third", **SAME_SIZE),
        *head("last"),
    ],
    "nested additions": [
        *STEM,
        node("Conv", ["u", "w1"], ["c"], "second", **SAME_SIZE),
        node("Relu", ["c"], ["v"], "second relu"),
        node("Conv", ["v", "w2"], ["d"], "third", **SAME_SIZE),
        node("Relu", ["d"], ["z"], "third relu"),
        node("Add", ["u", "v"], ["partial"], "add"),
        node("Add", ["partial", "z"], ["sum"], "add again"),
        node("Conv", ["sum", "w3"], ["last"], "fourth", **SAME_SIZE),
        *head("last"),
    ],
}


@NEEDS_ENGINE
@pytest.mark.parametrize("case", ADDITIONS)
def test_additions_are_fused_into_convolutions(case: str) -> None:
    model = int8_network(ADDITIONS[case])
    assert sum(len(op.adds) for op in _ops(model, ConvOp)) >= 1
    assert not _ops(model, QuantizeOp)
    assert not [op for op in _ops(model, BinaryOp) if op.operator == "add"]
    _assert_agrees(model)


@NEEDS_ENGINE
def test_split_and_concat_regroup_slices() -> None:
    nodes = [
        *STEM,
        node("Split", ["u", "halves"], ["u1", "u2"], "split", axis=1),
        node("Concat", ["u2", "u1"], ["swapped"], "concat", axis=1),
        node("MaxPool", ["swapped"], ["p"], "pool", kernel_shape=[1, 2, 2], strides=[1, 2, 2]),
        node("Conv", ["p", "w1"], ["last"], "second", strides=[2, 1, 1], **SAME_SIZE),
        *head("last"),
    ]
    model = int8_network(nodes, halves=np.array([3, 5], np.int64))
    assert {type(op) for op in lower(model).ops} == {InputOp, ConvOp, PoolOp, ReduceOp}
    (pool,) = _ops(model, PoolOp)
    assert [(part.first, part.last) for part in pool.inputs] == [(3, 8), (0, 3)]
    _assert_agrees(model)


@NEEDS_ENGINE
def test_an_attention_gate_multiplies_unquantized_outputs_of_a_convolution() -> None:
    nodes = [
        *STEM,
        node("ReduceMean", ["u"], ["mean"], "gate mean", axes=[2, 3, 4]),
        node("Sigmoid", ["mean"], ["g"], "gate"),
        node("Mul", ["u", "g"], ["gated"], "multiply"),
        node("Conv", ["gated", "w1"], ["last"], "second", **SAME_SIZE),
        *head("last"),
    ]
    model = int8_network(nodes)
    assert _ops(model, ConvOp)[0].unquantized is not None
    assert len(_ops(model, QuantizeOp)) == 1
    assert not _ops(model, DequantizeOp)
    float_ops = [op.operator for op in lower(model).ops if isinstance(op, BinaryOp | UnaryOp | ReduceOp)]
    assert float_ops == ["mean", "sigmoid", "mul", "mean"]
    _assert_agrees(model)


@NEEDS_ENGINE
def test_an_addition_behind_a_relu_is_computed_before_it_is_added() -> None:
    nodes = [
        *STEM,
        node("Conv", ["u", "w1"], ["c"], "second", **SAME_SIZE),
        node("Conv", ["c", "w2"], ["d"], "third", **SAME_SIZE),
        node("Relu", ["d"], ["z"], "third relu"),
        node("Add", ["c", "u"], ["sum"], "add"),
        node("Relu", ["sum"], ["r"], "relu of the sum"),
        node("Add", ["r", "z"], ["total"], "add again"),
        node("Conv", ["total", "w3"], ["last"], "fourth", **SAME_SIZE),
        *head("last"),
    ]
    _assert_agrees(int8_network(nodes))


@NEEDS_ENGINE
def test_the_output_of_a_pool_can_be_read_in_slices() -> None:
    nodes = [
        *STEM,
        node("MaxPool", ["u"], ["p"], "pool", kernel_shape=[1, 2, 2], strides=[1, 2, 2]),
        node("Split", ["p", "halves"], ["p1", "p2"], "split", axis=1),
        node("Concat", ["p2", "p1"], ["swapped"], "concat", axis=1),
        node("Conv", ["swapped", "w1"], ["last"], "second", **SAME_SIZE),
        *head("last"),
    ]
    _assert_agrees(int8_network(nodes, halves=np.array([3, 5], np.int64)))


@dataclass(frozen=True)
class _Refused:
    """Nodes from the activation 'u' to 'v', and the reason why the last one is not lowered."""

    nodes: list[NodeProto]
    layer: str
    operator: str
    requirement: NativeRequirement
    got: str
    constants: dict[str, npt.ArrayLike] = field(default_factory=dict)

    @property
    def reason(self) -> UnsupportedLayer:
        return UnsupportedLayer(layer=self.layer, operator=self.operator, requirement=self.requirement, got=self.got)


def _weights(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


REFUSED: dict[str, _Refused] = {
    "operator": _Refused([node("Softplus", ["u"], ["v"], "odd")], "odd", "Softplus", "operator", "Softplus"),
    "an average pool with automatic padding": _Refused(
        [node("AveragePool", ["u"], ["v"], "mean pool", kernel_shape=[3, 3, 3], auto_pad="SAME_UPPER")],
        "mean pool",
        "AveragePool",
        "plain-average",
        "dilations=[1], auto_pad=SAME_UPPER",
    ),
    "automatic padding": _Refused(
        [node("Conv", ["u", "w1"], ["v"], "auto", kernel_shape=[3, 3, 3], auto_pad="SAME_UPPER")],
        "auto",
        "Conv",
        "conv-3d",
        "3-D weights, auto_pad=SAME_UPPER",
    ),
    "a dilated pool": _Refused(
        [node("MaxPool", ["u"], ["v"], "wide", kernel_shape=[1, 2, 2], dilations=[1, 2, 2])],
        "wide",
        "MaxPool",
        "plain-pool",
        "dilations=[1, 2, 2], outputs=1",
    ),
    "a pool in float": _Refused(
        [
            node("Sigmoid", ["u"], ["s"], "sigmoid"),
            node("MaxPool", ["s"], ["v"], "pool", kernel_shape=[1, 2, 2]),
        ],
        "pool",
        "MaxPool",
        "int8-pool",
        "a float input",
    ),
    "a transposition": _Refused(
        [node("Transpose", ["u"], ["v"], "turn", perm=[0, 1, 2, 4, 3])],
        "turn",
        "Transpose",
        "space-to-depth",
        "perm [0, 1, 2, 4, 3] of 'u'",
    ),
    "a concatenation along time": _Refused(
        [node("Concat", ["u", "u"], ["v"], "long", axis=2)],
        "long",
        "Concat",
        "channel-concat",
        "axis 2",
    ),
    "a split along time": _Refused(
        [node("Split", ["u", "frames"], ["v", "rest"], "frames", axis=2)],
        "frames",
        "Split",
        "int8-channel-split",
        "axis 2",
        {"frames": np.array([1, 2], np.int64)},
    ),
    "a concatenation of wide float tensors": _Refused(
        [
            node("Sigmoid", ["u"], ["s"], "sigmoid"),
            node("Tanh", ["u"], ["t"], "tanh"),
            node("Concat", ["s", "t"], ["v"], "concat", axis=1),
        ],
        "concat",
        "Concat",
        "single-channel-concat",
        "float inputs of [8, 8] channels",
    ),
    "a reshape of an activation": _Refused(
        [
            node("Reshape", ["u", "shape"], ["flat"], "reshape"),
            node("Reshape", ["flat", "back"], ["v"], "back"),
        ],
        "back",
        "Reshape",
        "same-order",
        "(T, H, W, C) (3, 6, 6, 8) to (1, 1, 1, 864)",
        {"shape": np.array([1, 864], np.int64), "back": np.array(SHAPE, np.int64)},
    ),
}


def _reason(model: ir.Model) -> UnsupportedLayer:
    with pytest.raises(NotLoweredError) as caught:
        lower(model)
    return caught.value.reason


@pytest.mark.parametrize("case", REFUSED)
def test_a_layer_that_cannot_be_lowered_has_a_reason(case: str) -> None:
    refused = REFUSED[case]
    reason = _reason(int8_network([*STEM, *refused.nodes, *head("v")], **refused.constants))
    assert reason == refused.reason


QUANTIZED_CLIP = [
    node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "quantize"),
    node("DequantizeLinear", ["q", "scale", "zero"], ["u"], "dequantize"),
]
FLOAT_HEAD = [node("ReduceMean", ["u"], ["m"], "mean", axes=[2, 3, 4]), node("Flatten", ["m"], ["flat"], "flatten")]
FLOAT_REFUSED: dict[str, _Refused] = {
    "Gemm without transposition": _Refused(
        [*FLOAT_HEAD, node("Gemm", ["flat", "matrix"], ["y"], "gemm")],
        "gemm",
        "Gemm",
        "transposed-gemm",
        "transA=0, transB=0, alpha=1, beta=1",
        {"matrix": _weights(8, 5)},
    ),
    "a large Gemm": _Refused(
        [*FLOAT_HEAD, node("Gemm", ["flat", "matrix"], ["y"], "gemm", transB=1)],
        "gemm",
        "Gemm",
        "small-float-layer",
        "4,000,008",
        {"matrix": np.zeros((500_001, 8), np.float32)},
    ),
    "Gemm with a computed bias": _Refused(
        [*FLOAT_HEAD, node("Gemm", ["flat", "matrix", "flat"], ["y"], "gemm", transB=1)],
        "gemm",
        "Gemm",
        "constant-bias",
        "the computed tensor 'flat'",
        {"matrix": _weights(8, 8)},
    ),
    "a strided convolution": _Refused(
        [node("Conv", ["u", "w1"], ["y"], "conv", kernel_shape=[3, 3, 3], pads=[1] * 6, strides=[1, 2, 2])],
        "conv",
        "Conv",
        "same-size-float-conv",
        "strides [1, 2, 2], (T, H, W) (3, 6, 6) to (3, 3, 3)",
        {"w1": _weights(8, 8, 3, 3, 3)},
    ),
    "computed weights": _Refused(
        [node("Conv", ["u", "u"], ["y"], "conv", kernel_shape=[3, 6, 6])],
        "conv",
        "Conv",
        "constant-weights",
        "the computed tensor 'q'",
    ),
    "Max of three": _Refused([node("Max", ["u", "u", "u"], ["y"], "max")], "max", "Max", "two-inputs", "3"),
    "a reduction over the batch": _Refused(
        [node("ReduceMean", ["u"], ["y"], "mean", axes=[1, 2], keepdims=0)],
        "mean",
        "ReduceMean",
        "tensor-shape",
        "(1, 6, 6) of 'y'",
    ),
    "a reduction of a vector": _Refused(
        [*FLOAT_HEAD, node("ReduceMean", ["flat"], ["y"], "reduce", axes=[1])],
        "reduce",
        "ReduceMean",
        "reduced-activation",
        "shape (1, 8)",
    ),
}


@pytest.mark.parametrize("case", FLOAT_REFUSED)
def test_a_float_layer_that_cannot_be_lowered_has_a_reason(case: str) -> None:
    refused = FLOAT_REFUSED[case]
    constants = {"scale": np.float32(0.1), "zero": np.int8(0), **refused.constants}
    model = graph([*QUANTIZED_CLIP, *refused.nodes], constants, shape=SHAPE)
    assert _reason(model) == refused.reason


def test_scales_by_channel_are_refused_for_activations() -> None:
    constants = {"scale": np.full(8, 0.1, np.float32), "zero": np.zeros(8, np.int8)}
    reason = _reason(graph(QUANTIZED_CLIP, constants, shape=SHAPE))
    assert (reason.requirement, reason.got) == ("per-tensor-scale", "8 scales and zero point 0")


def test_a_dynamic_shape_is_refused() -> None:
    constants = {"scale": np.float32(0.1), "zero": np.int8(0)}
    reason = _reason(graph(QUANTIZED_CLIP, constants, shape=(1, 8, "frames", 6, 6)))
    assert (reason.requirement, reason.got) == ("static-shape", "(1, 8, ?, 6, 6) of 'x'")


def test_a_clip_in_float_is_refused() -> None:
    reason = _reason(graph([node("Sigmoid", ["x"], ["y"], "sigmoid")], shape=SHAPE))
    assert (reason.requirement, reason.got) == ("readable-input", "the clip 'x' in float")


def test_two_readers_of_the_quantized_clip_are_refused() -> None:
    nodes = [
        *QUANTIZED_CLIP,
        node("DequantizeLinear", ["q", "scale", "zero"], ["u2"], "dequantize again"),
        node("Sigmoid", ["u"], ["s"], "sigmoid"),
        node("Mul", ["u2", "s"], ["y"], "multiply"),
    ]
    reason = _reason(graph(nodes, {"scale": np.float32(0.1), "zero": np.int8(0)}, shape=SHAPE))
    assert (reason.layer, reason.requirement) == ("multiply", "one-clip-reader")


@NEEDS_ENGINE
def test_a_pool_and_a_float_layer_may_read_the_clip() -> None:
    nodes = [
        *QUANTIZED_CLIP,
        node("MaxPool", ["u"], ["p"], "pool", kernel_shape=[1, 2, 2], strides=[1, 2, 2]),
        node("ReduceMean", ["u"], ["m"], "clip mean", axes=[2, 3, 4]),
        node("Mul", ["p", "m"], ["scaled"], "multiply"),
        *head("scaled"),
    ]
    _assert_agrees(graph(nodes, {"scale": np.float32(0.1), "zero": np.int8(0)}, shape=SHAPE))


def test_a_refusal_in_english() -> None:
    error = NotLoweredError(Layer("conv1", "Conv"), "conv-3d", "2-D weights, auto_pad=NOTSET")
    assert str(error) == (
        "native engine: Conv 'conv1': expected a 3-D convolution with explicit padding, "
        "got 2-D weights, auto_pad=NOTSET; the OpenVINO and ONNX Runtime artifacts run this layer"
    )


@pytest.mark.parametrize("requirement", get_args(NativeRequirement))
def test_every_requirement_has_english(requirement: NativeRequirement) -> None:
    assert "expected " in str(NotLoweredError(Layer("conv1", "Conv"), requirement, "nothing"))
