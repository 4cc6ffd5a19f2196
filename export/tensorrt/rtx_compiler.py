"""The real TensorRT for RTX: its parser as a check of every graph, its compiler as the maker of engines.

Neither needs a GPU. The network is strongly typed (this product knows no other), so precision is what the graph
states. An engine is executable code for the compute capabilities it was built for and this exact version.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edgeact.errors import ConversionError
from edgeact.extras import require

__all__ = ["EngineBuild", "check_and_build", "parse_only", "supported_sms"]

_EXTRA = "tensorrt-rtx"
_NO_DRIVER = "CUDA driver version is insufficient"  # said on every machine without a GPU, whatever the error
_LAST_LINES = 6
# What the parser and the compiler say -> what to do about it; the first that matches.
_ADVICE = (
    ("Non-zero zero point", "quantize symmetrically: every zero point 0"),
    ("has type Int32 but must have type", "quantize with QuantizeBias=False, so that biases stay in float"),
    ("Scale coefficients must all be positive", "calibrate this tensor again: its scale is 0 or negative"),
    ("Plugin not found", "write this operator with others; a Fourier transform becomes constant matrix products"),
    ("FP32 3D convolution is not supported", "give it the FP16 graph: SM 7.5 has no FP32 3-D convolution"),
    ("no optimization profile", "export with fixed shapes: the clip's own batch, frames and size"),
    ("must be of same type", "cast the layer's inputs to one type: a strongly typed network converts none"),
    ("more than 1 outputs for MaxPool", "pool without return_indices"),
    ("mode than 1 outputs for MaxPool", "pool without return_indices"),
    ("does not support dilations", "use a larger kernel or a stride instead of the dilation"),
)
_DEFAULT_ADVICE = "replace this layer, or export for a target without TensorRT"


@dataclass(frozen=True)
class EngineBuild:
    """An engine and what it is bound to."""

    engine: bytes
    compute_capabilities: tuple[str, ...]
    tensorrt_rtx_version: str
    build_s: float
    warnings: tuple[str, ...] = ()

    @property
    def sm(self) -> str:
        """The compute capabilities as one text, '8.9' or '8.6, 8.9, 12.0'."""
        return ", ".join(self.compute_capabilities)


@dataclass(frozen=True)
class _Session:
    """One parser run; the network refers into the builder and the parser, so all are kept together."""

    trt: ModuleType
    log: Any
    builder: Any
    network: Any
    parser: Any


def supported_sms() -> tuple[str, ...]:
    """Compute capabilities the installed TensorRT for RTX builds engines for, ascending: ('7.5', ..., '12.1')."""
    trt = require("tensorrt_rtx", _EXTRA)
    numbers = sorted(int(name[2:]) for name in trt.ComputeCapability.__members__ if name.startswith("SM"))
    return tuple(f"{number // 10}.{number % 10}" for number in numbers)


def parse_only(onnx_bytes: bytes) -> tuple[str, ...]:
    """Put a serialized ONNX graph through the real parser; returns its warnings.

    Raises ConversionError naming every layer it refuses, and MissingExtraError where TensorRT for RTX is absent.
    """
    return _warnings(_parse(onnx_bytes))


def check_and_build(
    onnx_bytes: bytes, compute_capabilities: str | Sequence[str], *, allow_tf32: bool = True
) -> EngineBuild:
    """Parse a serialized ONNX graph of static shapes and build its engine, for one or several GPUs ('8.9').

    `allow_tf32` lets FP32 products be rounded to TF32, which is TensorRT's own default and much faster.
    Building a graph again with 1.7.1 gives the same bytes; TensorRT promises that nowhere.
    Raises ConversionError naming the layer that the parser or the compiler refuses with what to do, or a compute
    capability it does not know; MissingExtraError where TensorRT for RTX is absent.
    """
    sms = (compute_capabilities,) if isinstance(compute_capabilities, str) else tuple(compute_capabilities)
    known = supported_sms()
    if not sms or (unknown := [sm for sm in sms if sm not in known]):
        got = ", ".join(unknown) if sms else "none"
        message = f"TensorRT for RTX builds for compute capability {', '.join(known)}; got {got}"
        raise ConversionError(f"{message}; choose another target, or build on the board with TensorRT")
    session = _parse(onnx_bytes)
    config = session.builder.create_builder_config()
    config.num_compute_capabilities = len(sms)
    if not allow_tf32:
        config.clear_flag(session.trt.BuilderFlag.TF32)
    for index, sm in enumerate(sms):
        config.set_compute_capability(_capability(session.trt, sm), index)
    start = time.perf_counter()
    engine = session.builder.build_serialized_network(session.network, config)
    seconds = time.perf_counter() - start
    if engine is None:
        names = [session.network.get_layer(index).name for index in range(session.network.num_layers)]
        raise ConversionError(_build_failure(session.log.errors(), names, ", ".join(sms)))
    return EngineBuild(bytes(engine), sms, str(session.trt.__version__), seconds, _warnings(session))


def _parse(onnx_bytes: bytes) -> _Session:
    trt = require("tensorrt_rtx", _EXTRA)
    log = _collector(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx_bytes) or network.num_outputs == 0:  # bytes that are no model parse as an empty one
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise ConversionError(_parse_failure(errors, log.errors()))
    return _Session(trt, log, builder, network, parser)


def _collector(trt: ModuleType) -> Any:
    """A logger that prints nothing and keeps errors and warnings."""

    class Collector(trt.ILogger):  # type: ignore[misc, name-defined]  # the base is known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[tuple[Any, str]] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.WARNING and _NO_DRIVER not in message:
                self.lines.append((severity, message))

        def errors(self) -> list[str]:
            return [message for severity, message in self.lines if severity <= trt.ILogger.ERROR]

        def warnings(self) -> list[str]:
            return [message for severity, message in self.lines if severity == trt.ILogger.WARNING]

    return Collector()


def _warnings(session: _Session) -> tuple[str, ...]:
    return tuple(dict.fromkeys(message.strip() for message in session.log.warnings()))


def _capability(trt: ModuleType, sm: str) -> Any:
    return trt.ComputeCapability.__members__[f"SM{sm.replace('.', '')}"]


def _parse_failure(errors: Sequence[Any], log: Sequence[str]) -> str:
    if not any(error.node_operator() for error in errors):
        return f"TensorRT for RTX cannot read the graph: {_tail(log)}; expected a serialized ONNX model"
    lines = dict.fromkeys(_parser_line(error) for error in errors)
    return "\n".join(("TensorRT for RTX refuses the graph:", *lines))


def _parser_line(error: Any) -> str:
    text = " ".join(line for line in error.desc().splitlines() if _NO_DRIVER not in line)
    return f"  layer '{error.node_name()}' ({error.node_operator()}): {text}; {_advice(text)}"


def _build_failure(log: Sequence[str], layers: Sequence[str], sm: str) -> str:
    text = _tail(log)
    named = ", ".join(f"'{name}'" for name in _layers_in(text, layers))
    what = f"layer {named}" if named else "the graph (it names no layer)"
    return f"TensorRT for RTX cannot compile {what} for SM {sm}: {text}; {_advice(text)}"


def _layers_in(text: str, layers: Sequence[str]) -> Iterator[str]:
    """The layers whose names stand in the text as words of their own."""
    for name in dict.fromkeys(layers):
        if re.search(rf"(?<![\w./]){re.escape(name)}(?![\w/])", text):
            yield name


def _advice(text: str) -> str:
    return next((advice for said, advice in _ADVICE if said in text), _DEFAULT_ADVICE)


def _tail(log: Sequence[str]) -> str:
    return " ".join(" ".join(log[-_LAST_LINES:]).split()) or "it gives no reason"
