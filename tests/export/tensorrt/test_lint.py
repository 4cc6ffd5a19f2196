"""Every lint rule on a valid and an invalid graph, compared with the real parser if both apply."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeact.devices import TensorRtDialect, list_profiles, load_profile
from edgeact.errors import ConversionError, LintError
from edgeact.export.graph.proto import from_proto, to_bytes
from edgeact.export.tensorrt.findings import Finding, Subject
from edgeact.export.tensorrt.lint import RULES, lint_graph, raise_on_errors
from edgeact.export.tensorrt.rtx_compiler import check_and_build
from tests.export.graph.graphs import Conv, conv, dialect, graph, graph_proto, node
from tests.messages import names

JETPACK_5 = dialect("orin-nano-8gb", "jetpack-5.1")
JETPACK_6 = dialect("orin-nano-8gb", "jetpack-6.2")
JETPACK_4 = dialect("xavier-nx", "jetpack-4.6.1")
NANO = load_profile("nano").tensorrt[0]
TENSORRT_11 = dialect("agx-thor", "jetpack-7.2.2")
RTX = next(entry for entry in load_profile("rtx-4090").tensorrt if entry.product == "tensorrt-rtx")

WEIGHT = np.full((16, 16, 1, 1, 1), 0.1, np.float32)


@dataclass(frozen=True)
class Case:
    """A rule, a graph that follows the rule, a graph that breaks the rule, and the release."""

    rule: str
    kept: ir.Model
    broken: ir.Model
    dialect: TensorRtDialect = field(default=JETPACK_5)
    severity: str = "error"
    layer: str = "the_conv"
    sm: str | None = None
    got: str = ""
    """Part of the finding's `got`."""


def _pool(**attributes: Any) -> ir.Model:
    outputs = ["y", "indices"] if attributes.pop("indices", False) else ["y"]
    return graph([node("MaxPool", ["x"], outputs, kernel_shape=[2, 2, 2], **attributes)])


def _single(op_type: str, opset: int = 17, **attributes: Any) -> ir.Model:
    return graph([node(op_type, ["x"], ["y"], **attributes)], opset=opset)


def _foreign() -> ir.Model:
    model = graph_proto([node("Relu", ["x"], ["y"])])
    model.graph.node[0].domain = "acme"
    model.opset_import.append(onnx.helper.make_opsetid("acme", 1))
    return from_proto(model)


def _computed_weight() -> ir.Model:
    mean = node("ReduceMean", ["x"], ["m"], axes=[0, 2, 3, 4], keepdims=1)
    nodes = [mean, node("Mul", ["w", "m"], ["wm"]), node("Conv", ["x", "wm"], ["y"], "the_conv")]
    return graph(nodes, {"w": WEIGHT})


def _mixed_types(first: int, second: int) -> ir.Model:
    nodes = [
        node("Cast", ["x"], ["a"], "first", to=first),
        node("Cast", ["x"], ["b"], "second", to=second),
        node("Add", ["a", "b"], ["s"], "the_conv"),
        node("Cast", ["s"], ["y"], "last", to=onnx.TensorProto.FLOAT),
    ]
    return graph(nodes)


def _unstated_zero_point() -> ir.Model:
    nodes = [
        node("QuantizeLinear", ["x", "s"], ["q"], "the_quantizer"),
        node("DequantizeLinear", ["q", "s"], ["y"], "the_dequantizer"),
    ]
    return graph(nodes, {"s": np.float32(0.1)})


def _loop() -> ir.Model:
    body = onnx.helper.make_graph(
        [node("Identity", ["go"], ["again"]), node("Relu", ["state"], ["next"])],
        "body",
        [
            onnx.helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
            onnx.helper.make_tensor_value_info("go", onnx.TensorProto.BOOL, []),
            onnx.helper.make_tensor_value_info("state", onnx.TensorProto.FLOAT, None),
        ],
        [
            onnx.helper.make_tensor_value_info("again", onnx.TensorProto.BOOL, []),
            onnx.helper.make_tensor_value_info("next", onnx.TensorProto.FLOAT, None),
        ],
    )
    constants = {"times": np.int64(3), "yes": np.bool_(True)}
    return graph([node("Loop", ["times", "yes", "x"], ["y"], "the_loop", body=body)], constants)


INT8 = Conv(quantized=True)
HALF = onnx.TensorProto.FLOAT16
FLOAT = onnx.TensorProto.FLOAT
QUANTIZER, DEQUANTIZER = "the_quantizer", "the_dequantizer"
CASES = (
    Case("opset", conv(Conv()), conv(Conv(opset=18)), layer="graph", got="opset 18"),
    Case("opset", conv(Conv(opset=13)), conv(Conv()), JETPACK_4, layer="graph", got="opset 17"),
    Case("opset", conv(Conv(opset=20)), conv(Conv(opset=21)), JETPACK_6, "warning", "graph"),
    Case("static-shapes", conv(Conv()), conv(Conv(shape=("n", 16, 4, 8, 8))), layer="x", got="(?, 16, 4, 8, 8)"),
    Case("static-shapes", conv(Conv()), conv(Conv(shape=(1, 16, "t", 8, 8))), layer="x"),
    Case("operators", _single("Relu"), _single("DFT", axis=1), layer="the_DFT", got="DFT"),
    Case(
        "operators",
        _single("Relu"),
        _single("HardSwish"),
        JETPACK_4,
        layer="the_HardSwish",
        got="HardSwish, which came with 8.4",
    ),
    Case("operators", _single("HardSwish"), _foreign(), layer="the_Relu", got="acme.Relu"),
    Case("control-flow", _single("Relu"), _loop(), severity="warning", layer="the_loop"),
    Case("pooling", _pool(), _pool(indices=True), layer="the_MaxPool", got="two outputs"),
    Case(
        "pooling",
        _pool(dilations=[1, 1, 1]),
        _pool(dilations=[2, 2, 2]),
        layer="the_MaxPool",
        got="dilations [2, 2, 2]",
    ),
    Case("types", _mixed_types(HALF, HALF), _mixed_types(HALF, FLOAT), got="FLOAT and FLOAT16"),
    Case("strong-precision", conv(Conv(dtype=np.float16)), conv(Conv()), TENSORRT_11, "warning"),
    Case("turing-volumes", conv(Conv(dtype=np.float16)), conv(Conv()), RTX, sm="7.5", got="FP32"),
    Case("constant-weights", conv(INT8), _computed_weight(), JETPACK_4),
    Case("constant-weights", conv(INT8), _computed_weight(), JETPACK_5, "warning"),
    Case("quantization-support", conv(Conv()), conv(INT8), NANO, layer=QUANTIZER, got="QuantizeLinear"),
    Case("int32-bias", conv(INT8), conv(Conv(quantized=True, int32_bias=True)), layer="the_bias"),
    Case("zero-points", conv(INT8), conv(Conv(quantized=True, zero_point=3)), layer=QUANTIZER, got="3"),
    Case("signed-int8", conv(INT8), conv(Conv(quantized=True, integer=np.uint8)), layer=QUANTIZER),
    Case("signed-int8", conv(INT8), _unstated_zero_point(), layer=QUANTIZER, got="default without a zero point"),
    Case("scales", conv(INT8), conv(Conv(quantized=True, activation_scale=-0.1)), layer=QUANTIZER, got="-0.1"),
    Case("scales", conv(INT8), conv(Conv(quantized=True, activation_scale=np.inf)), layer=QUANTIZER, got="inf"),
    Case(
        "scales",
        conv(Conv(quantized=True, dtype=np.float16, opset=19)),
        conv(Conv(quantized=True, dtype=np.float16)),
        RTX,
        layer=QUANTIZER,
        got="opset 17",
    ),
    Case("scale-axes", conv(INT8), conv(Conv(quantized=True, activation_scale=[0.1] * 16)), layer=QUANTIZER),
    Case("scale-axes", conv(INT8), conv(Conv(quantized=True, weight_axis=1)), layer="the_weight", got="axis 1"),
    Case("group-size", conv(Conv(quantized=True, group=4)), conv(Conv(quantized=True, group=8))),
    Case("group-size", conv(Conv(quantized=True, group=16)), conv(Conv(24, 24, quantized=True, group=4))),
    Case("small-channels", conv(INT8), conv(Conv(2, 1, (7, 7, 7), quantized=True)), got="7x7x7"),
    Case("small-channels", conv(Conv(3, quantized=True)), conv(Conv(3, 64, (3, 7, 7), quantized=True))),
    Case("small-channels", conv(Conv(3, quantized=True)), conv(Conv(3, 8, quantized=True, stem=False))),
    Case(
        "small-channels",
        conv(INT8),
        conv(Conv(3, opset=13, quantized=True)),
        JETPACK_4,
        got="a quantized 3-D convolution of 3",
    ),
)


def _of(rule: str, findings: tuple[Finding, ...]) -> list[Finding]:
    return [finding for finding in findings if finding.rule == rule]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}-{case.dialect.name}-{case.got or case.layer}")
def test_a_rule_reports_the_broken_graph_and_not_the_other(case: Case) -> None:
    assert _of(case.rule, lint_graph(case.kept, case.dialect, sm=case.sm)) == []
    findings = _of(case.rule, lint_graph(case.broken, case.dialect, sm=case.sm))
    assert {finding.severity for finding in findings} == {case.severity}
    assert findings[0].layer == case.layer
    assert case.got in findings[0].got


def test_every_rule_has_a_case_and_speaks_under_its_name() -> None:
    names = {rule.__name__.replace("_", "-") for rule in RULES}
    assert {case.rule for case in CASES} == names
    for case in CASES:
        rule = next(rule for rule in RULES if rule.__name__.replace("_", "-") == case.rule)
        assert {finding.rule for finding in rule(Subject(case.broken, case.dialect, case.sm))} == {case.rule}


@pytest.mark.parametrize("board", list_profiles())
def test_symmetric_int8_graph_passes_on_every_release_that_computes_int8(board: str) -> None:
    for entry in load_profile(board).tensorrt:
        opset = min(17, entry.max_opset or 17)
        model = conv(Conv(quantized=entry.qdq, opset=opset, stem=False))
        assert [finding for finding in lint_graph(model, entry) if finding.severity == "error"] == []


# The rules that TensorRT for RTX enforces too, by experiment; group sizes and small channels are no limits there.
REFUSED_BY_BOTH = {
    "zero point": conv(Conv(quantized=True, zero_point=3)),
    "unsigned zero point": conv(Conv(quantized=True, zero_point=128, integer=np.uint8)),
    "INT32 bias": conv(Conv(quantized=True, int32_bias=True)),
    "negative scale": conv(Conv(quantized=True, activation_scale=-0.1)),
    "DFT": graph([node("DFT", ["x"], ["y"], axis=1)], shape=(1, 16, 8, 1)),
    "dynamic batch": conv(Conv(shape=("n", 16, 4, 8, 8))),
    "dynamic frames": conv(Conv(shape=(1, 16, "t", 8, 8))),
    "mixed types": _mixed_types(HALF, FLOAT),
    "pool indices": _pool(indices=True),
    "pool dilation": _pool(dilations=[2, 2, 2]),
}
TAKEN_BY_BOTH = {
    "float": conv(Conv()),
    "half": conv(Conv(dtype=np.float16)),
    "symmetric int8": conv(INT8),
    "symmetric int8, half": conv(Conv(quantized=True, dtype=np.float16, opset=19)),
    "grouped": conv(Conv(quantized=True, group=4)),
    "groups of two": conv(Conv(quantized=True, group=8)),
    "depthwise": conv(Conv(quantized=True, group=16)),
    "stem of 3 channels": conv(Conv(3, quantized=True)),
    "attention 7x7x7": conv(Conv(2, 1, (7, 7, 7), quantized=True)),
    "computed weight": _computed_weight(),
}


@pytest.mark.parametrize("name", REFUSED_BY_BOTH)
def test_lint_and_the_real_compiler_refuse_the_same_graphs(name: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = REFUSED_BY_BOTH[name]
    with pytest.raises(ConversionError):
        check_and_build(to_bytes(model), "8.9")
    with pytest.raises(LintError):
        raise_on_errors(lint_graph(model, RTX, sm="8.9"))


@pytest.mark.parametrize("name", TAKEN_BY_BOTH)
def test_lint_and_the_real_compiler_take_the_same_graphs(name: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = TAKEN_BY_BOTH[name]
    assert check_and_build(to_bytes(model), "8.9").engine
    raise_on_errors(lint_graph(model, RTX, sm="8.9"))


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize(("dtype", "taken"), [(np.float32, False), (np.float16, True)])
def test_lint_and_the_real_compiler_agree_on_turing(dtype: type, taken: bool, quantized: bool) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = conv(Conv(dtype=dtype, quantized=quantized, opset=19 if quantized else 17))
    errors = [finding for finding in lint_graph(model, RTX, sm="7.5") if finding.severity == "error"]
    if taken:
        assert errors == []
        assert check_and_build(to_bytes(model), "7.5").engine
    else:
        assert [finding.rule for finding in errors] == ["turing-volumes"]
        with pytest.raises(ConversionError, check=names("'the_conv'", "SM 7.5", "FP16 graph")):
            check_and_build(to_bytes(model), "7.5")


def test_error_lists_every_layer_and_no_warning() -> None:
    findings = lint_graph(conv(Conv(quantized=True, zero_point=3, int32_bias=True)), TENSORRT_11)
    assert "warning" in {finding.severity for finding in findings}
    with pytest.raises(LintError, check=names("breaks 3 rule")) as caught:
        raise_on_errors(findings)
    message = str(caught.value)
    assert all(layer in message for layer in ("the_quantizer", "the_dequantizer", "the_bias"))
    assert "strong-precision" not in message


def test_warnings_alone_do_not_raise() -> None:
    findings = lint_graph(conv(Conv()), TENSORRT_11)
    assert findings
    raise_on_errors(findings)


def test_unnamed_nodes_are_named_by_their_output() -> None:
    model = conv(Conv(quantized=True, zero_point=3))
    for entry in model.graph:
        entry.name = ""
    assert "QuantizeLinear -> x_int8" in {finding.layer for finding in lint_graph(model, JETPACK_5)}
