"""Typed reasons why a layer is kept in float: INT8 leaves it in the graph's type, or FP16 leaves it in FP32.

Programs compare types and fields; `edgeact.phrases.phrase` turns each of them into English.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeact.schema import StrictModel

__all__ = [
    "ActivationOverflows",
    "ActivationProduct",
    "ActivationUnderflows",
    "AttentionGate",
    "ConstantOverflows",
    "ConstantRounded",
    "FloatReason",
    "FourierTransform",
    "FusedWithFp32Layer",
    "Int8KernelRequirement",
    "KeptOnRequest",
    "NoFp16Operator",
    "NoInt8Kernel",
    "RefusedByTensorRt",
    "SensitiveToInt8",
    "SpectralLayer",
    "SumOverflows",
    "SumUnbounded",
]

Int8KernelRequirement = Literal[
    "constant-weight", "grouped-kernel", "cubic-kernel", "channel-multiple", "sixteen-channels"
]
"""What TensorRT's INT8 kernels for convolutions with few channels require."""


# Layers that INT8 leaves in float.


class AttentionGate(StrictModel):
    """The layer computes an attention gate."""

    kind: Literal["attention-gate"] = "attention-gate"


class ActivationProduct(StrictModel):
    """The layer multiplies two activations."""

    kind: Literal["activation-product"] = "activation-product"


class FourierTransform(StrictModel):
    """The layer is a Fourier transform."""

    kind: Literal["fourier-transform"] = "fourier-transform"


class SpectralLayer(StrictModel):
    """The layer processes a spectrum, between a Fourier transform and its inverse."""

    kind: Literal["spectral-layer"] = "spectral-layer"


class NoInt8Kernel(StrictModel):
    """TensorRT has no INT8 kernel for the convolution's shape."""

    kind: Literal["no-int8-kernel"] = "no-int8-kernel"
    requirement: Int8KernelRequirement
    outputs: int | None = None
    """Output channels; None if the weight is computed."""
    inputs: int | None = None
    """Input channels per group; None if the weight is computed."""
    kernel: tuple[int, ...] = ()


class KeptOnRequest(StrictModel):
    """The user keeps the layer's module in float."""

    kind: Literal["kept-on-request"] = "kept-on-request"
    module: str


class RefusedByTensorRt(StrictModel):
    """A TensorRT release of the target refuses the layer in INT8."""

    kind: Literal["refused-by-tensorrt"] = "refused-by-tensorrt"
    release: str
    rule: str
    """Name of the lint rule."""
    expected: str
    got: str


class SensitiveToInt8(StrictModel):
    """Mixed precision keeps the layer in float; the figures are those of a network with INT8 in this layer alone."""

    kind: Literal["sensitive-to-int8"] = "sensitive-to-int8"
    snr_db: float | None
    """Against the float network; None: no error."""
    top1_agreement: float


# Layers that FP16 leaves in FP32.


class NoFp16Operator(StrictModel):
    """ONNX defines no FP16 form of the operator."""

    kind: Literal["no-fp16-operator"] = "no-fp16-operator"
    operator: str
    opset: int


class ConstantOverflows(StrictModel):
    """A constant exceeds FP16's largest value."""

    kind: Literal["constant-overflows"] = "constant-overflows"
    constant: str
    largest: float
    limit: float


class ConstantRounded(StrictModel):
    """FP16 changes a constant by more than is allowed."""

    kind: Literal["constant-rounded"] = "constant-rounded"
    constant: str
    relative_change: float


class ActivationOverflows(StrictModel):
    """An activation exceeds the limit that leaves FP16 headroom."""

    kind: Literal["activation-overflows"] = "activation-overflows"
    tensor: str
    largest: float
    limit: float


class ActivationUnderflows(StrictModel):
    """An activation never reaches FP16's normal range."""

    kind: Literal["activation-underflows"] = "activation-underflows"
    tensor: str
    largest: float


class SumOverflows(StrictModel):
    """The terms of a sum could add up beyond the limit that leaves FP16 headroom."""

    kind: Literal["sum-overflows"] = "sum-overflows"
    operator: str
    terms: int
    bound: float
    limit: float


class SumUnbounded(StrictModel):
    """Nothing bounds the terms of a sum."""

    kind: Literal["sum-unbounded"] = "sum-unbounded"
    operator: str
    cause: Literal["no-sample-clips", "unknown-terms"]


class FusedWithFp32Layer(StrictModel):
    """The node fuses with a quantized layer that is kept in FP32."""

    kind: Literal["fused-with-fp32-layer"] = "fused-with-fp32-layer"
    layer: str


FloatReason = Annotated[
    AttentionGate
    | ActivationProduct
    | FourierTransform
    | SpectralLayer
    | NoInt8Kernel
    | KeptOnRequest
    | RefusedByTensorRt
    | SensitiveToInt8
    | NoFp16Operator
    | ConstantOverflows
    | ConstantRounded
    | ActivationOverflows
    | ActivationUnderflows
    | SumOverflows
    | SumUnbounded
    | FusedWithFp32Layer,
    Field(discriminator="kind"),
]
