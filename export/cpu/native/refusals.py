"""Reasons why the native engine cannot run a layer, as typed values, and their rendering in English."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from edgeact.errors import ConversionError

__all__ = ["Layer", "NotLoweredError", "Requirement", "UnmetRequirement", "Unsupported"]

_OTHER_BACKENDS = "the OpenVINO and ONNX Runtime artifacts run this layer"
_QUANTIZE = "let INT8 quantize this layer, or use the OpenVINO artifact"


class Layer(NamedTuple):
    """An ONNX node as messages name it."""

    name: str
    operator: str


class _Text(NamedTuple):
    expected: str
    advice: str = _OTHER_BACKENDS


class Requirement(enum.Enum):
    """What the native engine requires of a layer; the value is the requirement in English."""

    OPERATOR = _Text("an operator that the engine implements")
    STATIC_SHAPE = _Text("a static shape", "export the model with a fixed clip size")
    TENSOR_SHAPE = _Text("shape (1, C, T, H, W), (1, C) or (C,)")
    READABLE_INPUT = _Text("a quantized clip, and inputs that an earlier layer computes")
    PER_TENSOR_SCALE = _Text("one quantization scale for all channels and a stored zero point of 0")
    QUANTIZED_INPUT = _Text("a quantized input")
    CONSTANT_WEIGHTS = _Text("constant weights", "fold the weights into constants before the export")
    CONSTANT_BIAS = _Text("a constant float32 bias", "fold the bias into a constant before the export")
    PLAIN_CONV = _Text("a convolution without groups and dilation")
    CONV_3D = _Text("a 3-D convolution with explicit padding")
    ONE_CLIP_READER = _Text("one reader of the quantized clip")
    INT8_POOL = _Text("a pool on INT8 activations", _QUANTIZE)
    PLAIN_POOL = _Text("a pool without dilation and without indices")
    INT8_CHANNEL_SPLIT = _Text("a split of INT8 activations along channels (axis 1)", _QUANTIZE)
    CHANNEL_CONCAT = _Text("a concatenation along channels (axis 1)")
    SINGLE_CHANNEL_CONCAT = _Text("INT8 inputs, or float inputs of one channel each", _QUANTIZE)
    SAME_ORDER = _Text("a reshape that keeps the (T, H, W, C) order: vectors only")
    SPACE_TO_DEPTH = _Text("space-to-depth of the clip, perm [0, 1, 4, 6, 2, 3, 5]")
    TWO_INPUTS = _Text("2 inputs")
    REDUCED_ACTIVATION = _Text("a reduction of (1, C, T, H, W) over constant axes")
    REDUCED_SHAPE = _Text("a reduction that leaves (1, C, T, H, W) or (1, C)")
    TRANSPOSED_GEMM = _Text("transB=1, transA=0, alpha=1 and beta=1")
    VECTOR_INPUT = _Text("an input of shape (1, C)")
    SMALL_FLOAT_LAYER = _Text("at most 4,000,000 multiply-accumulates in float", _QUANTIZE)
    SAME_SIZE_FLOAT_CONV = _Text("a float convolution with stride 1 and same-size output", _QUANTIZE)
    FUSED_ADD_INPUTS = _Text("an addition of at most 3 inputs, at most 1 of them an unquantized convolution")
    UNSHARED_CONV = _Text("an unquantized convolution output with no other reader than this addition")
    CONV_BEFORE_ADD = _Text("an input that a convolution computes after all other inputs, to fuse the addition into")
    ALIGNED_CHANNELS = _Text("the same channels of the convolution's output in every input")
    WHOLE_TENSOR = _Text("readers of all channels together: only convolutions store channels separately")

    @property
    def expected(self) -> str:
        """The requirement as a noun phrase."""
        return self.value.expected

    @property
    def advice(self) -> str:
        """What to do if a layer does not meet the requirement."""
        return self.value.advice


class UnmetRequirement(Exception):
    """A requirement that a layer does not meet; without `layer` it is the one being lowered."""

    def __init__(self, requirement: Requirement, got: str, layer: Layer | None = None) -> None:
        super().__init__(requirement, got, layer)
        self.requirement = requirement
        self.got = got
        self.layer = layer


@dataclass(frozen=True)
class Unsupported:
    """Why the native engine cannot run a layer."""

    layer: str
    operator: str
    requirement: Requirement
    got: str

    def __str__(self) -> str:
        text = self.requirement
        return f"native engine: {self.operator} '{self.layer}': expected {text.expected}, got {self.got}; {text.advice}"


class NotLoweredError(ConversionError):
    """A graph with a layer that the native engine cannot run; `reason` says which and why."""

    def __init__(self, reason: Unsupported) -> None:
        super().__init__(str(reason))
        self.reason = reason
