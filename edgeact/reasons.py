"""Typed reasons and decisions of a build: why a candidate is shipped or rejected, and what the exporter decided.

Programs compare types and fields; `edgeact.phrases.phrase` turns each of them into English.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeact.layer_reasons import FloatReason
from edgeact.loading_notes import DataNote, ModelNote
from edgeact.native_requirements import UnsupportedLayer
from edgeact.schema import StrictModel

__all__ = [
    "AccuracyDropTooLarge",
    "AccuracyUnknown",
    "AfterPruning",
    "BiasCorrection",
    "ChannelsOffMultiple",
    "ChosenFastest",
    "DecidedOnDevice",
    "Decision",
    "EngineNotBuilt",
    "FineTuned",
    "Float32Kernels",
    "InstructionSet",
    "Int8Omitted",
    "KernelsInexact",
    "KernelsMissing",
    "LatencyCause",
    "LayoutCopies",
    "MixedPrecision",
    "MixedPrecisionFailed",
    "NotCompared",
    "NotLowered",
    "Note",
    "ParityReference",
    "ParityTooLow",
    "PassResult",
    "ProfileFailed",
    "Pruned",
    "RangesCollected",
    "Reason",
    "ReleaseUnsuited",
    "RunFailed",
    "SlowerThanChosen",
    "UnknownAccuracy",
    "VideosSkipped",
]

UnknownAccuracy = Literal["not-measured", "random-weights", "int8-not-preferred"]
"""Why a verdict rests on no accuracy; 'int8-not-preferred': INT8 was left behind for lack of a measured accuracy."""


# Causes of a candidate's latency, by its backend's profile.


class KernelsMissing(StrictModel):
    """Convolutions and matrix products that the backend does not compute in the candidate's precision."""

    kind: Literal["kernels-missing"] = "kernels-missing"
    precision: str
    count: int
    total: int
    computed_in: tuple[str, ...]


class Float32Kernels(StrictModel):
    """The candidate computes in FP32."""

    kind: Literal["float32-kernels"] = "float32-kernels"


class LayoutCopies(StrictModel):
    """Share of the latency that is copies and changes of layout or precision."""

    kind: Literal["layout-copies"] = "layout-copies"
    share: float
    operators: tuple[str, ...]


class ChannelsOffMultiple(StrictModel):
    """Convolutions whose channel counts are no multiple of what the target's kernels compute at once."""

    kind: Literal["channels-off-multiple"] = "channels-off-multiple"
    count: int
    total: int
    multiple: int


class InstructionSet(StrictModel):
    """The native engine runs on a slower instruction set than it has kernels for."""

    kind: Literal["instruction-set"] = "instruction-set"
    used: str
    fastest: str


class ProfileFailed(StrictModel):
    """The candidate ran, but could not be profiled."""

    kind: Literal["profile-failed"] = "profile-failed"
    error: str


LatencyCause = Annotated[
    KernelsMissing | Float32Kernels | LayoutCopies | ChannelsOffMultiple | InstructionSet | ProfileFailed,
    Field(discriminator="kind"),
]


# Reasons of a verdict.


class ParityReference(StrictModel):
    """A PyTorch model that candidates are compared with."""

    kind: Literal["parity-reference"] = "parity-reference"
    role: Literal["parity", "accuracy", "unpruned"]
    """parity: the model that is converted; accuracy: the unpruned model that the accuracy drop counts from; unpruned:
    the unpruned model, for comparison."""


class RunFailed(StrictModel):
    """The candidate cannot be opened or run."""

    kind: Literal["run-failed"] = "run-failed"
    error: str


class NotCompared(StrictModel):
    """No backend of this machine executes the candidate's graph, so its parity is unknown."""

    kind: Literal["not-compared"] = "not-compared"


class ParityTooLow(StrictModel):
    """The candidate's logits do not agree with PyTorch within the limits of its precision."""

    kind: Literal["parity-too-low"] = "parity-too-low"
    clips: int
    snr_db: float | None
    snr_limit_db: float
    top1_agreement: float
    top1_limit: float
    max_abs_error: float
    max_abs_limit: float | None


class KernelsInexact(StrictModel):
    """The INT8 graph is accurate, but the backend's kernels on this CPU do not compute what it states."""

    kind: Literal["kernels-inexact"] = "kernels-inexact"
    backend: str
    clips: int
    snr_db: float
    """Of the backend's logits, against the logits of the graph in exact integers."""
    snr_limit_db: float
    exact_snr_db: float | None
    """Of the graph in exact integers, against PyTorch; None: equal."""


class AccuracyDropTooLarge(StrictModel):
    """The candidate loses more top-1 than the accuracy budget allows."""

    kind: Literal["accuracy-drop"] = "accuracy-drop"
    points: float
    allowed: float


class AccuracyUnknown(StrictModel):
    """INT8 whose accuracy could not be measured: a device that selects by latency alone would prefer it."""

    kind: Literal["accuracy-unknown"] = "accuracy-unknown"


class ChosenFastest(StrictModel):
    """The fastest candidate within the accuracy budget on this machine."""

    kind: Literal["chosen-fastest"] = "chosen-fastest"
    unknown_accuracy: UnknownAccuracy | None = None
    """None: the accuracy was measured."""
    not_distinguished_from: tuple[str, ...] = ()
    """Candidates whose latency is not significantly different: the confidence intervals overlap."""


class SlowerThanChosen(StrictModel):
    """A candidate compared with the chosen candidate's latency; `ratio` below 1 is faster."""

    kind: Literal["slower-than-chosen"] = "slower-than-chosen"
    chosen: str
    ratio: float
    intervals_overlap: bool = False
    causes: tuple[LatencyCause, ...] = ()
    is_fallback: bool = False
    """Whether it is kept for machines that cannot run the chosen one."""
    accuracy_unknown: bool = False
    """Whether it is INT8 whose accuracy could not be measured."""


class DecidedOnDevice(StrictModel):
    """The target was not timed here: the device times the candidates itself."""

    kind: Literal["decided-on-device"] = "decided-on-device"
    unknown_accuracy: UnknownAccuracy | None = None


Reason = Annotated[
    ParityReference
    | RunFailed
    | NotCompared
    | ParityTooLow
    | KernelsInexact
    | AccuracyDropTooLarge
    | AccuracyUnknown
    | ChosenFastest
    | SlowerThanChosen
    | DecidedOnDevice,
    Field(discriminator="kind"),
]


class ReleaseUnsuited(StrictModel):
    """Why a TensorRT release cannot build a graph; `limit` and `got` are what the release and the graph have."""

    kind: Literal["release-unsuited"] = "release-unsuited"
    requirement: Literal["tensorrt", "opset", "typing", "int8", "layer-precision"]
    limit: str = ""
    got: str = ""


# Decisions of a build.


class Note(StrictModel):
    """A sentence about the model or the data in records of earlier releases."""

    kind: Literal["note"] = "note"
    text: str


class VideosSkipped(StrictModel):
    """Calibration videos that could not be read."""

    kind: Literal["videos-skipped"] = "videos-skipped"
    count: int


class PassResult(StrictModel):
    """Outcome of one exact graph rewrite."""

    kind: Literal["pass-result"] = "pass-result"
    name: str
    applied: bool
    detail: str


class Int8Omitted(StrictModel):
    """Why there is no INT8 candidate."""

    kind: Literal["int8-omitted"] = "int8-omitted"
    cause: Literal["no-data", "target-has-none", "all-layers-in-float"]
    target: str = ""
    layer_reasons: tuple[FloatReason | str, ...] = ()
    """Why the layers are kept in float, each reason once; empty if there is no layer to quantize. Records of earlier
    releases hold their English."""


class NotLowered(StrictModel):
    """Why a candidate for the native engine was not made."""

    kind: Literal["not-lowered"] = "not-lowered"
    artifact: str
    layer: UnsupportedLayer | None = None
    unavailable: str = ""
    """Why the engine is not available on this machine."""


class RangesCollected(StrictModel):
    """Calibration method, and whether the ranges settled on the clips given."""

    kind: Literal["ranges-collected"] = "ranges-collected"
    method: str
    summary: str


class BiasCorrection(StrictModel):
    """Bias correction of an INT8 graph, kept only if held-back clips gain."""

    kind: Literal["bias-correction"] = "bias-correction"
    mixed: bool
    outcome: Literal["corrected", "no-gain", "too-few-clips", "no-error"]
    layers: int = 0
    clips: int
    """Held-back clips that the gain was measured on; with 'too-few-clips' the calibration clips there are."""
    before_db: float | None = None
    after_db: float | None = None


class MixedPrecision(StrictModel):
    """Layers that mixed precision keeps in float, and how close the network comes to its goal on calibration clips."""

    kind: Literal["mixed-precision"] = "mixed-precision"
    layers: int
    share: float
    """Share of the multiply-accumulates that is kept in float."""
    snr_db: float | None
    changed: int
    """Calibration clips whose top-1 class changed."""
    clips: int
    goal_snr_db: float
    goal_changed: int
    share_limit: float
    needed_layers: int | None = None
    """If the goal is out of reach: the layers that would meet it; None if it is met."""
    needed_share: float | None = None


class MixedPrecisionFailed(StrictModel):
    """Why no mixed-precision candidate could be made."""

    kind: Literal["mixed-precision-failed"] = "mixed-precision-failed"
    error: str


class EngineNotBuilt(StrictModel):
    """No engine ahead of time: TensorRT for RTX does not build for the target's compute capability."""

    kind: Literal["engine-not-built"] = "engine-not-built"
    sm: str


class Pruned(StrictModel):
    """What pruning removed."""

    kind: Literal["pruned"] = "pruned"
    ratio: str
    importance: str
    scope: str
    channel_multiple: int
    parameters: tuple[int, int]
    """Before and after."""
    macs: tuple[int, int]
    unpruned_layers: int
    """Layers that keep all output channels; the plan says why."""


class FineTuned(StrictModel):
    """How the pruned model was fine-tuned."""

    kind: Literal["fine-tuned"] = "fine-tuned"
    data: str
    epochs: str
    teacher_sha256: str
    distillation: str
    validation_top1: str


class AfterPruning(StrictModel):
    """Which model parity and accuracy drop count from after pruning."""

    kind: Literal["after-pruning"] = "after-pruning"
    case: Literal["nothing-pruned", "fine-tuned", "not-fine-tuned", "pruned-before"]


Decision = Annotated[
    Note
    | ModelNote
    | DataNote
    | VideosSkipped
    | PassResult
    | Int8Omitted
    | NotLowered
    | RangesCollected
    | BiasCorrection
    | MixedPrecision
    | MixedPrecisionFailed
    | EngineNotBuilt
    | Pruned
    | FineTuned
    | AfterPruning,
    Field(discriminator="kind"),
]
