"""Sentences of reasons that concern a layer: kept in float, or not supported by the native engine."""

from __future__ import annotations

from edgeact import layer_reasons as lr
from edgeact.native_requirements import NativeRequirement, UnsupportedLayer
from edgeact.phrases._phrase import phrase

__all__: list[str] = []

_INT8_KERNEL_REQUIREMENTS: dict[lr.Int8KernelRequirement, str] = {
    "constant-weight": "a constant weight",
    "grouped-kernel": "kernel sides of at least 3 and output channels in multiples of 8 for groups",
    "cubic-kernel": "a cubic kernel for few channels",
    "channel-multiple": "input or output channels in multiples of 8",
    "sixteen-channels": "at least 16 input or output channels",
}

_OTHER_BACKENDS = "the OpenVINO and ONNX Runtime artifacts run this layer"
_QUANTIZE = "let INT8 quantize this layer, or use the OpenVINO artifact"
_NATIVE_REQUIREMENTS: dict[NativeRequirement, tuple[str, str]] = {
    "operator": ("an operator that the engine implements", _OTHER_BACKENDS),
    "static-shape": ("a static shape", "export the model with a fixed clip size"),
    "tensor-shape": ("shape (1, C, T, H, W), (1, C) or (C,)", _OTHER_BACKENDS),
    "readable-input": ("a quantized clip, and inputs that an earlier layer computes", _OTHER_BACKENDS),
    "per-tensor-scale": ("one quantization scale for all channels and a stored zero point of 0", _OTHER_BACKENDS),
    "quantized-input": ("a quantized input", _OTHER_BACKENDS),
    "constant-weights": ("constant weights", "fold the weights into constants before the export"),
    "constant-bias": ("a constant float32 bias", "fold the bias into a constant before the export"),
    "constant-bounds": ("constant bounds", "fold the bounds into constants before the export"),
    "plain-conv": ("a convolution without groups and dilation", _OTHER_BACKENDS),
    "conv-3d": ("a 3-D convolution with explicit padding", _OTHER_BACKENDS),
    "one-clip-reader": ("one reader of the quantized clip", _OTHER_BACKENDS),
    "int8-pool": ("a pool on INT8 activations", _QUANTIZE),
    "plain-pool": ("a pool without dilation and without indices", _OTHER_BACKENDS),
    "plain-average": ("an average pool without dilation and with explicit padding", _OTHER_BACKENDS),
    "int8-channel-split": ("a split of INT8 activations along channels (axis 1)", _QUANTIZE),
    "channel-concat": ("a concatenation along channels (axis 1)", _OTHER_BACKENDS),
    "single-channel-concat": ("INT8 inputs, or float inputs of one channel each", _QUANTIZE),
    "same-order": ("a reshape that keeps the (T, H, W, C) order: vectors only", _OTHER_BACKENDS),
    "space-to-depth": ("space-to-depth of the clip, perm [0, 1, 4, 6, 2, 3, 5]", _OTHER_BACKENDS),
    "two-inputs": ("2 inputs", _OTHER_BACKENDS),
    "reduced-activation": ("a reduction of (1, C, T, H, W) over constant axes", _OTHER_BACKENDS),
    "reduced-shape": ("a reduction that leaves (1, C, T, H, W) or (1, C)", _OTHER_BACKENDS),
    "transposed-gemm": ("transB=1, transA=0, alpha=1 and beta=1", _OTHER_BACKENDS),
    "vector-input": ("an input of shape (1, C)", _OTHER_BACKENDS),
    "small-float-layer": ("at most 4,000,000 multiply-accumulates in float", _QUANTIZE),
    "same-size-float-conv": ("a float convolution with stride 1 and same-size output", _QUANTIZE),
    "fused-add-inputs": (
        "an addition of at most 3 inputs, at most 1 of them an unquantized convolution",
        _OTHER_BACKENDS,
    ),
    "unshared-conv": ("an unquantized convolution output with no other reader than this addition", _OTHER_BACKENDS),
    "conv-before-add": (
        "an input that a convolution computes after all other inputs, to fuse the addition into",
        _OTHER_BACKENDS,
    ),
    "aligned-channels": ("the same channels of the convolution's output in every input", _OTHER_BACKENDS),
    "whole-tensor": ("readers of all channels together: only convolutions store channels separately", _OTHER_BACKENDS),
}
"""Requirement -> what the engine expects, and what to do if a layer does not meet the requirement."""


@phrase.register
def _(reason: UnsupportedLayer) -> str:
    expected, advice = _NATIVE_REQUIREMENTS[reason.requirement]
    return f"native engine: {reason.operator} '{reason.layer}': expected {expected}, got {reason.got}; {advice}"


@phrase.register
def _(_reason: lr.AttentionGate) -> str:
    return "attention gate: an error scales whole channels or frames, and float takes little time"


@phrase.register
def _(_reason: lr.ActivationProduct) -> str:
    return "product of two activations: attention weights over many positions are below one INT8 scale"


@phrase.register
def _(_reason: lr.FourierTransform) -> str:
    return "Fourier transform: the INT8 scale of a frame's mean rounds its other frequencies to 0"


@phrase.register
def _(_reason: lr.SpectralLayer) -> str:
    return "processes a spectrum: the INT8 scale of a frame's mean rounds its other frequencies to 0"


@phrase.register
def _(reason: lr.NoInt8Kernel) -> str:
    expected = _INT8_KERNEL_REQUIREMENTS[reason.requirement]
    if reason.requirement == "constant-weight":
        return f"computed weight: INT8 kernels need {expected}"
    kernel = "x".join(map(str, reason.kernel))
    return (
        f"{reason.inputs} input channels per group and {reason.outputs} output channels, kernel {kernel}: INT8 kernels "
        f"need {expected}"
    )


@phrase.register
def _(reason: lr.KeptOnRequest) -> str:
    return f"module '{reason.module}' is kept in float on request"


@phrase.register
def _(reason: lr.RefusedByTensorRt) -> str:
    return f"{reason.release}: expected {reason.expected}, got {reason.got}"


@phrase.register
def _(reason: lr.SensitiveToInt8) -> str:
    snr = "no error" if reason.snr_db is None else f"{reason.snr_db:.1f} dB of SNR"
    return f"mixed precision: INT8 in this layer alone gives {snr} and {reason.top1_agreement:.0%} of the top-1"


@phrase.register
def _(reason: lr.NoFp16Operator) -> str:
    return f"FP32: ONNX opset {reason.opset} has no FP16 {reason.operator}"


@phrase.register
def _(reason: lr.ConstantOverflows) -> str:
    return f"FP32: constant '{reason.constant}' reaches {reason.largest:.3g}; FP16 ends at {reason.limit:.0f}"


@phrase.register
def _(reason: lr.ConstantRounded) -> str:
    return f"FP32: constant '{reason.constant}' changes by {reason.relative_change:.1%} in FP16"


@phrase.register
def _(reason: lr.ActivationOverflows) -> str:
    return (
        f"FP32: '{reason.tensor}' reaches {reason.largest:.3g} on the sample clips; FP16 is trusted up to "
        f"{reason.limit:.0f}"
    )


@phrase.register
def _(reason: lr.ActivationUnderflows) -> str:
    return f"FP32: '{reason.tensor}' stays below {reason.largest:.3g} on the sample clips, too small for FP16's digits"


@phrase.register
def _(reason: lr.SumOverflows) -> str:
    return (
        f"FP32: {reason.operator} adds up {reason.terms} terms to {reason.bound:.3g} at most; FP16 is trusted up to "
        f"{reason.limit:.0f}"
    )


@phrase.register
def _(reason: lr.SumUnbounded) -> str:
    if reason.cause == "no-sample-clips":
        return f"FP32: {reason.operator} adds up many terms, and no sample clips bound them"
    return f"FP32: {reason.operator} adds up an unknown number of terms"


@phrase.register
def _(reason: lr.FusedWithFp32Layer) -> str:
    return f"FP32: part of the quantized layer '{reason.layer}', which is kept in FP32"
