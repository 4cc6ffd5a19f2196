"""English for every typed reason and decision of `edgeact.reasons`, in one place."""

from __future__ import annotations

import functools

from edgeact import reasons as r
from edgeact.native_requirements import NativeRequirement, UnsupportedLayer

__all__ = ["phrase"]

_ACCURACY_UNKNOWN = (
    "accuracy not measured, so INT8 is not preferred: give --labels and --data with the labels of the model"
)
_UNKNOWN: dict[r.UnknownAccuracy, str] = {
    "not-measured": "accuracy not measured",
    "random-weights": "random weights: accuracy means nothing",
    "int8-not-preferred": _ACCURACY_UNKNOWN,
}
_AFTER_PRUNING = {
    "nothing-pruned": "nothing was pruned: at these ratios and channel multiples no layer has channels to spare; "
    "the plan gives the reason for each layer",
    "fine-tuned": "parity counts from the pruned PyTorch model, the accuracy drop from the unpruned model",
    "not-fine-tuned": "pruned without fine-tuning (--finetune DATA): accuracy is lost, compare the two PyTorch rows; "
    "the allowed accuracy drop and parity count from the pruned model",
    "pruned-before": "the weights had been pruned before: parity and accuracy drop count from them; export the "
    "unpruned weights with --prune to count from those",
}
_REFERENCES = {
    "parity": "reference of parity and accuracy",
    "accuracy": "unpruned model; the accuracy drop counts from it",
    "unpruned": "model before pruning",
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
    "plain-conv": ("a convolution without groups and dilation", _OTHER_BACKENDS),
    "conv-3d": ("a 3-D convolution with explicit padding", _OTHER_BACKENDS),
    "one-clip-reader": ("one reader of the quantized clip", _OTHER_BACKENDS),
    "int8-pool": ("a pool on INT8 activations", _QUANTIZE),
    "plain-pool": ("a pool without dilation and without indices", _OTHER_BACKENDS),
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


@functools.singledispatch
def phrase(value: object) -> str:
    """Return the English sentence of a reason, a decision or a latency cause, without a final period.

    Raises TypeError for any other value.
    """
    raise TypeError(f"expected a value of edgeact.reasons, got {type(value).__name__}")


@phrase.register
def _(cause: r.KernelsMissing) -> str:
    label = "INT8" if cause.precision == "int8" else "FP16 or BF16"
    names = "/".join(cause.computed_in)
    return f"no {label} kernel for {cause.count} of {cause.total} convolutions and products, computed in {names}"


@phrase.register
def _(cause: r.Float32Kernels) -> str:
    return "computed in f32"


@phrase.register
def _(cause: r.LayoutCopies) -> str:
    operators = ", ".join(cause.operators)
    return f"{cause.share:.0%} of the latency is copies and changes of layout or precision ({operators})"


@phrase.register
def _(cause: r.ChannelsOffMultiple) -> str:
    return f"{cause.count} of {cause.total} convolutions have channel counts off the multiple of {cause.multiple}"


@phrase.register
def _(cause: r.InstructionSet) -> str:
    return f"the native kernels run with {cause.used} here, not with {cause.fastest}"


@phrase.register
def _(cause: r.ProfileFailed) -> str:
    return f"profiling failed ({cause.error})"


@phrase.register
def _(reason: r.ParityReference) -> str:
    return _REFERENCES[reason.role]


@phrase.register
def _(reason: r.RunFailed) -> str:
    return f"does not run: {reason.error}"


@phrase.register
def _(reason: r.NotCompared) -> str:
    return "could not be compared with PyTorch on this machine"


@phrase.register
def _(reason: r.ParityTooLow) -> str:
    snr = "exact" if reason.snr_db is None else f"{reason.snr_db:.1f} dB"
    limit = "" if reason.max_abs_limit is None else f" (at most {reason.max_abs_limit:.2g})"
    return (
        f"does not agree with PyTorch: SNR {snr} (at least {reason.snr_limit_db:.0f} dB), same top-1 on "
        f"{reason.top1_agreement:.0%} of {reason.clips} clips (expected {reason.top1_limit:.0%}), largest error "
        f"{reason.max_abs_error:.2g}{limit}"
    )


@phrase.register
def _(reason: r.AccuracyDropTooLarge) -> str:
    digits = 1 if round(reason.points, 1) > round(reason.allowed, 1) else 3
    return f"loses {reason.points:.{digits}f} points of top-1, {reason.allowed:.{digits}f} are allowed"


@phrase.register
def _(reason: r.AccuracyUnknown) -> str:
    return f"{_ACCURACY_UNKNOWN}, or ask for INT8 with --precision int8"


@phrase.register
def _(reason: r.ChosenFastest) -> str:
    if reason.unknown_accuracy is None:
        text = "fastest within the accuracy budget on this machine"
    elif reason.unknown_accuracy == "int8-not-preferred":
        text = f"fastest float artifact on this machine; {_ACCURACY_UNKNOWN}"
    else:
        text = f"fastest on this machine; {_UNKNOWN[reason.unknown_accuracy]}"
    if not reason.not_distinguished_from:
        return text
    others = ", ".join(reason.not_distinguished_from)
    return f"{text}; not significantly different from {others}: the confidence intervals of the latency overlap"


@phrase.register
def _(reason: r.SlowerThanChosen) -> str:
    overlap = " (the confidence intervals overlap)" if reason.intervals_overlap else ""
    text = f"{reason.ratio:.2f} times the latency of {reason.chosen}{overlap}"
    if reason.causes:
        text = f"{text}: {', '.join(map(phrase, reason.causes))}"
    if reason.accuracy_unknown:
        text = f"{text}; {_ACCURACY_UNKNOWN}"
    if reason.is_fallback:
        text = f"{text}; kept for machines that cannot run {reason.chosen}"
    return text


@phrase.register
def _(reason: r.DecidedOnDevice) -> str:
    text = "the target was not timed here: the device times the candidates itself"
    return text if reason.unknown_accuracy is None else f"{text}; {_UNKNOWN[reason.unknown_accuracy]}"


@phrase.register
def _(decision: r.Note) -> str:
    return decision.text


@phrase.register
def _(decision: r.VideosSkipped) -> str:
    return f"{decision.count} videos left out of calibration: unreadable"


@phrase.register
def _(decision: r.PassResult) -> str:
    return f"rewrite '{decision.name}' {'applied' if decision.applied else 'not applied'}: {decision.detail}"


@phrase.register
def _(decision: r.Int8Omitted) -> str:
    if decision.cause == "no-data":
        return "no INT8: no data with the labels of the model was given to calibrate on (--data DATA)"
    if decision.cause == "target-has-none":
        return f"no INT8: TensorRT has none on {decision.target}"
    why = ", ".join(decision.layer_reasons) or "there is none to quantize"
    return f"no INT8: every layer is kept in float ({why})"


@phrase.register
def _(reason: UnsupportedLayer) -> str:
    expected, advice = _NATIVE_REQUIREMENTS[reason.requirement]
    return f"native engine: {reason.operator} '{reason.layer}': expected {expected}, got {reason.got}; {advice}"


@phrase.register
def _(decision: r.NotLowered) -> str:
    return f"no {decision.artifact}: {phrase(decision.layer) if decision.layer else decision.unavailable}"


@phrase.register
def _(decision: r.RangesCollected) -> str:
    return f"INT8 by {decision.method} ranges: {decision.summary}"


@phrase.register
def _(decision: r.BiasCorrection) -> str:
    label = "mixed INT8" if decision.mixed else "INT8"
    if decision.outcome == "too-few-clips":
        return f"{label}: biases not corrected: {decision.clips} calibration clips are too few to prove a gain"
    if decision.outcome == "no-error":
        return f"{label}: biases not corrected: quantization causes no error"
    change = f"{decision.before_db:.1f} to {decision.after_db:.1f} dB on {decision.clips} held-back clips"
    if decision.outcome == "no-gain":
        return f"{label}: biases not corrected: correction takes the SNR from {change}"
    return f"{label}: biases of {decision.layers} layers corrected: correction takes the SNR from {change}"


@phrase.register
def _(decision: r.MixedPrecision) -> str:
    snr = "no error" if decision.snr_db is None else f"{decision.snr_db:.1f} dB"
    text = (
        f"mixed INT8: {decision.layers} layers in float ({decision.share:.0%} of the multiply-accumulates) give {snr} "
        f"and change the class of {decision.changed} of {decision.clips} calibration clips; the goal is "
        f"{decision.goal_snr_db:.1f} dB and at most {decision.goal_changed}"
    )
    if decision.needed_layers is None or decision.needed_share is None:
        return text
    return (
        f"{text}, which takes {decision.needed_layers} layers, {decision.needed_share:.0%}: more than "
        f"{decision.share_limit:.0%} gains little over a float artifact, use --precision fp16 or allow a larger "
        "accuracy drop (--max-drop)"
    )


@phrase.register
def _(decision: r.MixedPrecisionFailed) -> str:
    return f"no mixed INT8: {decision.error}"


@phrase.register
def _(decision: r.EngineNotBuilt) -> str:
    return f"no engine ahead of time: TensorRT for RTX does not build for SM {decision.sm}"


@phrase.register
def _(decision: r.Pruned) -> str:
    kept = decision.unpruned_layers
    unpruned = f"; {kept} layers keep all output channels (the plan gives the reasons)" if kept else ""
    return (
        f"pruned: ratio {decision.ratio}, importance {decision.importance}, scope {decision.scope}, multiples of "
        f"{decision.channel_multiple}: {decision.parameters[0]:,} -> {decision.parameters[1]:,} parameters, "
        f"{decision.macs[0] / 1e6:,.1f} -> {decision.macs[1] / 1e6:,.1f} MMACs{unpruned}"
    )


@phrase.register
def _(decision: r.FineTuned) -> str:
    return (
        f"fine-tuned on {decision.data}, epochs: {decision.epochs}, teacher: the unpruned weights "
        f"{decision.teacher_sha256[:12]} ({decision.distillation}), validation top-1 {decision.validation_top1}"
    )


@phrase.register
def _(decision: r.AfterPruning) -> str:
    return _AFTER_PRUNING[decision.case]
