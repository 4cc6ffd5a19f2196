"""Parse and compile graphs with TensorRT for RTX itself: a check of every graph, and engines for desktop GPUs.

Neither needs a GPU. The network is strongly typed (this product has no other typing), so the graph states every
precision. An engine is executable code for the compute capabilities it was built for and this exact version.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import SupportsInt, cast

from edgeact.errors import ConversionError
from edgeact.extras import require
from edgeact.runtime.backends import _trt_api as api
from edgeact.runtime.backends._trt_lifetime import without_collection

__all__ = ["EngineBuild", "check_and_build", "parse_only", "supported_sms"]

_EXTRA = "tensorrt-rtx"
_NO_DRIVER = "CUDA driver version is insufficient"  # said on every machine without a GPU, whatever the error
_LAST_LINES = 6
# Part of a message of the parser or compiler -> what to do about it; the first that matches.
_ADVICE = (
    ("Non-zero zero point", "quantize symmetrically: every zero point 0"),
    ("has type Int32 but must have type", "quantize with QuantizeBias=False, so that biases stay in float"),
    ("Scale coefficients must all be positive", "calibrate this tensor again: its scale is 0 or negative"),
    ("Plugin not found", "write this operator with others; a Fourier transform becomes constant matrix products"),
    ("FP32 3D convolution is not supported", "give it the FP16 graph: SM 7.5 has no FP32 3-D convolution"),
    ("no optimization profile", "export with static shapes: the clip's own batch, frames and size"),
    ("must be of same type", "cast the layer's inputs to one type: a strongly typed network converts none"),
    ("more than 1 outputs for MaxPool", "pool without return_indices"),
    ("mode than 1 outputs for MaxPool", "pool without return_indices"),
    ("does not support dilations", "use a larger kernel or a stride instead of the dilation"),
)
_DEFAULT_ADVICE = "replace this layer, or export for a target without TensorRT"


@dataclass(frozen=True)
class EngineBuild:
    """An engine, and the GPUs and version that it is bound to."""

    engine: bytes
    compute_capabilities: tuple[str, ...]
    tensorrt_rtx_version: str
    build_s: float
    warnings: tuple[str, ...] = ()

    @property
    def sm(self) -> str:
        """The compute capabilities as one text, '8.9' or '8.6, 8.9, 12.0'."""
        return ", ".join(self.compute_capabilities)


@dataclass
class _Messages:
    """TensorRT's messages while it parses and compiles a graph."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def distinct_warnings(self) -> tuple[str, ...]:
        """Return every warning once, in order."""
        return tuple(dict.fromkeys(message.strip() for message in self.warnings))


@dataclass(frozen=True)
class _Parsed:
    """A parsed network; it refers into the builder and the parser, so all are kept together."""

    messages: _Messages
    builder: api.Builder
    network: api.Network
    parser: api.Parser


def supported_sms() -> tuple[str, ...]:
    """Return the compute capabilities that TensorRT for RTX builds engines for, ascending: ('7.5', ..., '12.1')."""
    names = _module().ComputeCapability.__members__
    numbers = sorted(int(name[2:]) for name in names if name.startswith("SM"))
    return tuple(f"{number // 10}.{number % 10}" for number in numbers)


@without_collection
def parse_only(onnx_bytes: bytes) -> tuple[str, ...]:
    """Parse a serialized ONNX graph with the real parser and return its warnings.

    Raises ConversionError naming every layer it refuses, and MissingExtraError if TensorRT for RTX is not installed.
    """
    return _parse(_module(), onnx_bytes).messages.distinct_warnings()


@without_collection
def check_and_build(
    onnx_bytes: bytes, compute_capabilities: str | Sequence[str], *, allow_tf32: bool = True
) -> EngineBuild:
    """Parse a serialized ONNX graph of static shapes and build its engine, for one or several GPUs ('8.9').

    `allow_tf32` lets FP32 products be rounded to TF32, which is TensorRT's default and much faster.
    Building a graph again with 1.7.1 gives the same bytes; TensorRT documents no such promise.
    Raises ConversionError naming the layer that the parser or the compiler refuses with what to do, or a compute
    capability it does not support; MissingExtraError if TensorRT for RTX is not installed.
    """
    sms = (compute_capabilities,) if isinstance(compute_capabilities, str) else tuple(compute_capabilities)
    trt = _module()
    _require_supported(sms)
    parsed = _parse(trt, onnx_bytes)
    config = parsed.builder.create_builder_config()
    config.num_compute_capabilities = len(sms)
    if not allow_tf32:
        config.clear_flag(trt.BuilderFlag.__members__["TF32"])
    for index, sm in enumerate(sms):
        config.set_compute_capability(trt.ComputeCapability.__members__[f"SM{sm.replace('.', '')}"], index)
    start = time.perf_counter()
    engine = parsed.builder.build_serialized_network(parsed.network, config)
    seconds = time.perf_counter() - start
    if engine is None:
        layers = [parsed.network.get_layer(index).name for index in range(parsed.network.num_layers)]
        raise ConversionError(_build_failure(parsed.messages.errors, layers, ", ".join(sms)))
    return EngineBuild(bytes(engine), sms, trt.__version__, seconds, parsed.messages.distinct_warnings())


def _module() -> api.TensorRt:
    return cast(api.TensorRt, require("tensorrt_rtx", _EXTRA))


def _require_supported(sms: Sequence[str]) -> None:
    supported = supported_sms()
    unknown = [sm for sm in sms if sm not in supported]
    if unknown or not sms:
        raise ConversionError(
            f"TensorRT for RTX: expected compute capabilities among {', '.join(supported)}, "
            f"got {', '.join(unknown) or 'none'}; choose another target, or build on the board with TensorRT"
        )


def _parse(trt: api.TensorRt, onnx_bytes: bytes) -> _Parsed:
    messages = _Messages()
    logger = _logger(trt, messages)
    builder = trt.Builder(logger)
    strongly_typed = int(trt.NetworkDefinitionCreationFlag.__members__["STRONGLY_TYPED"])
    network = builder.create_network(1 << strongly_typed)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_bytes) or network.num_outputs == 0:  # bytes that are no model parse as an empty one
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise ConversionError(_parse_failure(errors, messages.errors))
    return _Parsed(messages, builder, network, parser)


def _logger(trt: api.TensorRt, messages: _Messages) -> api.Logger:
    """Return a logger that prints nothing and keeps errors and warnings."""
    error, warning = int(trt.ILogger.ERROR), int(trt.ILogger.WARNING)

    class Collector(trt.ILogger):  # type: ignore[misc, name-defined]  # the base class is known at run time only
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: SupportsInt, message: str) -> None:
            if _NO_DRIVER not in message and int(severity) <= warning:
                (messages.errors if int(severity) <= error else messages.warnings).append(message)

    logger: api.Logger = Collector()
    return logger


def _parse_failure(errors: Sequence[api.ParserError], log: Sequence[str]) -> str:
    if not any(error.node_operator() for error in errors):
        return f"TensorRT for RTX: expected a serialized ONNX model, got bytes it cannot read: {_tail(log)}"
    lines = dict.fromkeys(_parser_line(error) for error in errors)
    return "\n".join(("TensorRT for RTX refuses the graph:", *lines))


def _parser_line(error: api.ParserError) -> str:
    text = " ".join(line for line in error.desc().splitlines() if _NO_DRIVER not in line)
    return f"  layer '{error.node_name()}' ({error.node_operator()}): {text}; {_advice(text)}"


def _build_failure(log: Sequence[str], layers: Sequence[str], sm: str) -> str:
    text = _tail(log)
    named = ", ".join(f"'{name}'" for name in _layers_in(text, layers))
    subject = f"layer {named}" if named else "the graph (TensorRT names no layer)"
    return f"TensorRT for RTX cannot compile {subject} for SM {sm}: {text}; {_advice(text)}"


def _layers_in(text: str, layers: Sequence[str]) -> Iterator[str]:
    """Yield the layers whose names occur in the text as separate words."""
    for name in dict.fromkeys(layers):
        if re.search(rf"(?<![\w./]){re.escape(name)}(?![\w/])", text):
            yield name


def _advice(text: str) -> str:
    return next((advice for part, advice in _ADVICE if part in text), _DEFAULT_ADVICE)


def _tail(log: Sequence[str]) -> str:
    return " ".join(" ".join(log[-_LAST_LINES:]).split()) or "TensorRT gives no reason"
