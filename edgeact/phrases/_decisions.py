"""Sentences of the decisions of a build."""

from __future__ import annotations

from edgeact import reasons as r
from edgeact.phrases._phrase import phrase

__all__: list[str] = []

_AFTER_PRUNING = {
    "nothing-pruned": "nothing was pruned: at these ratios and channel multiples no layer has channels to spare; "
    "the plan gives the reason for each layer",
    "fine-tuned": "parity counts from the pruned PyTorch model, the accuracy drop from the unpruned model",
    "not-fine-tuned": "pruned without fine-tuning (--finetune DATA): accuracy is lost, compare the two PyTorch rows; "
    "the allowed accuracy drop and parity count from the pruned model",
    "pruned-before": "the weights had been pruned before: parity and accuracy drop count from them; export the "
    "unpruned weights with --prune to count from those",
}


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
    reasons = (reason if isinstance(reason, str) else phrase(reason) for reason in decision.layer_reasons)
    why = ", ".join(reasons) or "there is none to quantize"
    return f"no INT8: every layer is kept in float ({why})"


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
