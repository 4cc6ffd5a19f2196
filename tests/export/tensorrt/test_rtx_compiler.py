"""The real parser and ahead-of-time compiler: their engines, and the messages of their refusals."""

from __future__ import annotations

import numpy as np
import pytest

from edgeact.errors import ConversionError, MissingExtraError
from edgeact.export.tensorrt import rtx_compiler as tensorrt_rtx
from edgeact.export.tensorrt.rtx_compiler import check_and_build, parse_only, supported_sms
from tests.export.graph.graphs import Conv, node
from tests.export.graph.graphs import conv_proto as conv
from tests.export.graph.graphs import graph_proto as graph
from tests.messages import names

trt = pytest.importorskip("tensorrt_rtx")
INT8 = conv(Conv(quantized=True)).SerializeToString()


@pytest.mark.parametrize("sm", supported_sms())
def test_half_precision_volume_builds_for_every_gpu_it_knows(sm: str) -> None:
    built = check_and_build(conv(Conv(dtype=np.float16)).SerializeToString(), sm)
    assert built.sm == sm
    assert built.compute_capabilities == (sm,)
    assert built.tensorrt_rtx_version == trt.__version__
    assert built.build_s > 0
    assert len(built.engine) > 10_000


def test_one_engine_serves_several_gpus() -> None:
    built = check_and_build(INT8, ("8.6", "8.9", "12.0"))
    assert built.sm == "8.6, 8.9, 12.0"
    assert len(built.engine) > 10_000


def test_two_builds_of_one_graph_are_equal_and_gpus_differ() -> None:
    first, second = (check_and_build(INT8, "8.9").engine for _ in range(2))
    assert first == second
    assert first != check_and_build(INT8, "12.0").engine


def test_fp32_is_built_without_tf32_on_request() -> None:
    model = conv(Conv(64, 64)).SerializeToString()
    assert check_and_build(model, "8.9", allow_tf32=False).engine != check_and_build(model, "8.9").engine


def test_parsing_alone_returns_the_warnings() -> None:
    assert parse_only(INT8) == ()
    warnings = parse_only(conv(Conv(quantized=True, integer=np.uint8)).SerializeToString())
    assert any("UINT8" in line for line in warnings)


REFUSALS = {
    "zero point": (conv(Conv(quantized=True, zero_point=3)), "'the_quantizer'", "quantize symmetrically"),
    "INT32 bias": (conv(Conv(quantized=True, int32_bias=True)), "'the_bias'", "QuantizeBias=False"),
    "scale": (conv(Conv(quantized=True, activation_scale=-1.0)), "'the_quantizer'", "calibrate"),
    "operator": (graph([node("DFT", ["x"], ["y"], axis=1)], shape=(1, 4, 8, 1)), "'the_DFT'", "matrix products"),
    "indices": (graph([node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2] * 3)]), "'the_MaxPool'", "return_indices"),
    "dilation": (
        graph([node("MaxPool", ["x"], ["y"], kernel_shape=[2] * 3, dilations=[2] * 3)]),
        "'the_MaxPool'",
        "larger kernel",
    ),
    "dynamic shape": (conv(Conv(shape=(1, 16, "t", 8, 8))), "no layer", "static shapes"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_names_the_layer_and_what_to_do(name: str) -> None:
    model, layer, advice = REFUSALS[name]
    with pytest.raises(ConversionError) as caught:
        check_and_build(model.SerializeToString(), "8.9")
    assert layer in str(caught.value)
    assert advice in str(caught.value)
    assert "driver version" not in str(caught.value)  # noise of a machine without a GPU


def test_refusal_keeps_no_object_of_tensorrt_alive() -> None:
    """A collection during TensorRT's next message would destroy them under TensorRT's own lock: a deadlock."""
    with pytest.raises(ConversionError) as caught:
        check_and_build(REFUSALS["zero point"][0].SerializeToString(), "8.9")
    frames = [entry.frame for entry in caught.traceback]
    values = [value for frame in frames for value in frame.f_locals.values()]
    assert len(frames) > 2  # the wrapper's frame and the function's are among them
    assert not [value for value in values if type(value).__module__.startswith("tensorrt_rtx")]


def test_refusal_lists_every_layer_and_each_once() -> None:
    nodes = [node("DFT", ["x"], ["a"], "first", axis=1), node("DFT", ["a"], ["y"], "second", axis=1)]
    with pytest.raises(ConversionError) as caught:
        parse_only(graph(nodes, shape=(1, 4, 8, 1)).SerializeToString())
    assert [str(caught.value).count(f"'{name}'") for name in ("first", "second")] == [1, 1]


def test_compiler_failure_names_the_layer() -> None:
    with pytest.raises(ConversionError, check=names("compile layer 'the_conv' for SM 7.5", "FP16 graph")):
        check_and_build(conv(Conv()).SerializeToString(), "7.5")


@pytest.mark.parametrize("sms", ["8.7", ("8.9", "11.0"), ()])
def test_unknown_gpus_are_refused_with_the_known_ones(sms: str | tuple[str, ...]) -> None:
    with pytest.raises(ConversionError, check=names("7.5,", "12.0", "build on the board")):
        check_and_build(INT8, sms)


@pytest.mark.parametrize("data", [b"", b"this is no model", INT8[: len(INT8) // 2]], ids=["empty", "text", "half"])
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    with pytest.raises(ConversionError):
        parse_only(data)


def test_absent_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: str, extra: str) -> None:
        raise MissingExtraError(module, extra)

    monkeypatch.setattr(tensorrt_rtx, "require", absent)
    with pytest.raises(MissingExtraError, check=names("edgeact[tensorrt-rtx]")):
        parse_only(INT8)


def test_compiler_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConversionError):
        check_and_build(conv(Conv(quantized=True, zero_point=3)).SerializeToString(), "8.9")
    check_and_build(INT8, "8.9")
    assert capfd.readouterr() == ("", "")
