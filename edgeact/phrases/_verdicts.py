"""Sentences of a candidate's verdict and of the causes of its latency."""

from __future__ import annotations

from edgeact import reasons as r
from edgeact.phrases._phrase import phrase

__all__: list[str] = []

_ACCURACY_UNKNOWN = (
    "accuracy not measured, so INT8 is not preferred: give --labels and --data with the labels of the model"
)
_UNKNOWN: dict[r.UnknownAccuracy, str] = {
    "not-measured": "accuracy not measured",
    "random-weights": "random weights: accuracy means nothing",
    "int8-not-preferred": _ACCURACY_UNKNOWN,
}
_RELEASE_REQUIREMENTS = {
    "tensorrt": "TensorRT for RTX takes engines built ahead of time, not recipes",
    "opset": "the release's parser reads ONNX opset {limit} at most, the graph has {got}",
    "typing": "the release's typing is {limit}, the graph has {got} typing",
    "int8": "TensorRT computes no INT8 on this GPU: use fp16",
    "layer-precision": "the release's trtexec cannot keep single layers in FP32, and '{got}' must not be in FP16: use "
    "fp32",
}
_REFERENCES = {
    "parity": "reference of parity and accuracy",
    "accuracy": "unpruned model; the accuracy drop counts from it",
    "unpruned": "model before pruning",
}


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
def _(reason: r.KernelsInexact) -> str:
    exact = "exact" if reason.exact_snr_db is None else f"{reason.exact_snr_db:.1f} dB"
    return (
        f"kernel saturates on this CPU, or quantizes a tensor twice: the logits of {reason.backend} have an SNR of "
        f"{reason.snr_db:.1f} dB (at least {reason.snr_limit_db:.0f} dB) against the INT8 graph in exact integers on "
        f"{reason.clips} clips, which has {exact} against PyTorch"
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
def _(reason: r.ReleaseUnsuited) -> str:
    return _RELEASE_REQUIREMENTS[reason.requirement].format(limit=reason.limit, got=reason.got)
