"""Versioned records of measurements: written as JSON, shown by reports, compared by gates.

The names of numbers contain their unit. An estimate has a field of its own, apart from measured values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from edgeact.clip import ClipSpec
from edgeact.precision import Precision
from edgeact.reasons import Decision, Reason
from edgeact.schema import StrictModel

__all__ = [
    "SCHEMA_VERSION",
    "Accuracy",
    "AccuracyRecord",
    "BundleRecord",
    "ClassAccuracy",
    "Interval",
    "Latency",
    "LatencyRecord",
    "LayerSensitivity",
    "Machine",
    "Measurements",
    "PairedDrop",
    "PairedVerdict",
    "Parity",
    "ParityLimits",
    "Row",
    "SearchRecipe",
    "SearchRecord",
    "SearchTrial",
    "Sensitivity",
    "Sensors",
    "Verdict",
]

SCHEMA_VERSION = "1.2"

Verdict = Literal["chosen", "candidate", "rejected", "reference"]
PairedVerdict = Literal["keeps", "loses", "undecided"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Record(StrictModel):
    """Base of all records."""


class Interval(Record):
    """A two-sided 95 % confidence interval."""

    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Return whether the intervals share a value, so that the estimates are not significantly different."""
        return self.low <= other.high and other.low <= self.high


class Machine(Record):
    """The machine and software of a measurement; two records are comparable if `fingerprint` is equal."""

    processor: str = Field(description="CPU model, or name of the board")
    architecture: str
    cores: int = Field(ge=1)
    memory_bytes: int = Field(ge=0)
    isa: tuple[str, ...] = Field(default=(), description="instruction sets that affect INT8 and BF16 speed")
    operating_system: str
    board: str | None = Field(default=None, description="device profile id, if the board is known")
    accelerator: str | None = None
    power_mode: str | None = None
    clock_mhz: float | None = None
    versions: Mapping[str, str] = Field(default_factory=dict, description="package -> version; not in the fingerprint")

    @property
    def fingerprint(self) -> str:
        """Digest of the hardware and power state, without the library versions, whose effect a gate measures."""
        parts = (self.processor, self.architecture, self.cores, self.memory_bytes >> 30, *self.isa)
        text = "|".join(map(str, (*parts, self.board, self.accelerator, self.power_mode)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class ParityLimits(Record):
    """Limits of the parity with PyTorch FP32, fixed per precision."""

    max_abs_error: float | None = Field(description="largest absolute logit error; None: no limit")
    snr_db: float
    top1_agreement: Fraction


class Parity(Record):
    """Agreement of an artifact's logits with PyTorch FP32 on the same clips."""

    clips: int = Field(ge=1)
    max_abs_error: float = Field(ge=0)
    snr_db: float | None = Field(description="10 log10(signal power / error power); None: no error")
    top1_agreement: Fraction
    limits: ParityLimits
    passed: bool


class ClassAccuracy(Record):
    """Accuracy of one class."""

    label: str
    count: int = Field(ge=0)
    correct: int = Field(ge=0)

    @property
    def top1(self) -> float | None:
        """Fraction of the samples that are classified correctly; None if there are none."""
        return self.correct / self.count if self.count else None


class Accuracy(Record):
    """Top-1 and top-5 on a labeled data set, by clip or by video (mean over the non-overlapping clips of a video)."""

    level: Literal["clip", "video"]
    dataset: str
    split: str
    data_digest: str = Field(description="SHA-256 over the sorted references, labels and file digests")
    count: int = Field(ge=1)
    correct: int = Field(ge=0)
    top1: Fraction
    top1_interval: Interval = Field(
        description="Wilson 95 %; too narrow for clips, which are not independent within a video"
    )
    top5: Fraction | None = Field(description="None if there are fewer than six classes")
    per_class: tuple[ClassAccuracy, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = Field(default=(), description="[true][predicted] counts")
    skipped: Mapping[str, int] = Field(default_factory=dict, description="reason -> number of videos skipped")
    handled: Mapping[str, int] = Field(
        default_factory=dict, description="irregularity -> number of videos used nevertheless"
    )


class PairedDrop(Record):
    """Accuracy drop of a model against a reference on the same videos, in points of top-1; negative for a gain."""

    count: int = Field(ge=1, description="videos that both models classified")
    reference_correct: int = Field(ge=0)
    lost: int = Field(ge=0, description="videos that only the reference classifies correctly")
    gained: int = Field(ge=0, description="videos that only the candidate classifies correctly")
    drop_points: float
    interval: Interval = Field(description="points; 95 %, paired bootstrap over videos")
    p_value: Fraction = Field(description="McNemar's exact two-sided test of equal accuracy")
    max_drop_points: float = Field(description="allowed drop that the verdict refers to")
    verdict: PairedVerdict = Field(description="keeps or loses if the whole interval does, else undecided")
    count_needed: int = Field(ge=1, description="videos needed to detect a drop of one point with 80 % power")


class Latency(Record):
    """Latency of one clip in an open session, in milliseconds; no outlier is removed."""

    runs: int = Field(ge=1)
    warmup_runs: int = Field(ge=0)
    threads: int | None
    mean_ms: float
    min_ms: float
    max_ms: float
    p50_ms: float
    p90_ms: float | None = Field(description="None if there are too few runs")
    p99_ms: float | None = Field(description="None if there are too few runs")
    p50_interval: Interval = Field(description="95 % confidence interval from order statistics")
    samples_ms: tuple[float, ...] = ()


class Row(Record):
    """A candidate: an artifact on a backend, its measurements, and its verdict."""

    artifact: str = Field(description="name of the artifact in the bundle, or of the reference model")
    precision: Precision
    backend: str
    device: str = Field(description="'CPU', 'CUDA:0', 'SM 8.9' ...")
    size_bytes: int = Field(ge=0)
    parity: Parity | None = None
    accuracy: tuple[Accuracy, ...] = ()
    latency: Latency | None = None
    latency_estimate_ms: float | None = Field(default=None, description="roofline estimate; never measured")
    drop: PairedDrop | None = Field(
        default=None, description="against the unpruned model, if this export pruned the model"
    )
    verdict: Verdict
    reason: str = Field(description="in English")
    typed_reason: Reason | None = Field(default=None, description="the same with types and fields; None before 1.2")


class LayerSensitivity(Record):
    """Effect of INT8 in a single layer on the output of the network."""

    layer: str = Field(description="name of the node in the ONNX graph")
    weight: str = Field(description="name of its weight: that of the state dict, if the exporter kept the name")
    macs: int = Field(ge=0)
    snr_db: float | None = Field(description="at the output, against the float graph; None: no error")
    top1_agreement: Fraction
    float_reason: str = Field(default="", description="why mixed precision keeps the layer in float; empty: INT8")


class Sensitivity(Record):
    """INT8 sensitivity by layer on calibration clips, for the layers that no rule keeps in float."""

    artifact: str = Field(description="name of the analyzed artifact")
    clips: int = Field(ge=1)
    snr_db: float | None = Field(description="with all layers in INT8; None: no error")
    top1_agreement: Fraction
    mixed_snr_db: float | None = Field(
        default=None, description="with the layers that have a float_reason kept in float"
    )
    mixed_top1_agreement: Fraction | None = Field(default=None, description="None: no mixed precision was tried")
    layers: tuple[LayerSensitivity, ...] = Field(description="in the order of the graph")


class Measurements(Record):
    """All rows of a bundle, measured on one machine."""

    schema_version: str = SCHEMA_VERSION
    kind: Literal["measurements"] = "measurements"
    created_utc: str
    model: str
    target: str
    machine: Machine
    rows: tuple[Row, ...]
    sensitivity: tuple[Sensitivity, ...] = Field(default=(), description="of each analyzed INT8 graph")
    decisions: tuple[Decision, ...] = Field(default=(), description="of the build, with types and fields")


class BundleRecord(Record):
    """The measured artifact and bundle, time and machine: the common part of records of a bundle."""

    schema_version: str = SCHEMA_VERSION
    kind: str
    created_utc: str
    bundle_digest: str = Field(description="digest of the manifest of the bundle")
    model: str
    artifact: str
    precision: Precision
    backend: str
    device: str
    machine: Machine


class AccuracyRecord(BundleRecord):
    """The record that `edgeact evaluate` writes."""

    kind: Literal["accuracy"] = "accuracy"
    accuracy: tuple[Accuracy, ...]


class Sensors(Record):
    """Readings of the sensors of a machine at one time; None if there is no such sensor."""

    cpu_clock_mhz: float | None = Field(default=None, description="of the fastest core")
    gpu_clock_mhz: float | None = None
    temperature_c: float | None = Field(default=None, description="of the hottest thermal zone")
    power_w: float | None = Field(default=None, description="of the whole board")
    is_throttling: bool | None = Field(default=None, description="a thermal governor limits a clock")
    throttle_events: int | None = Field(default=None, description="counted by the processor since its start")


class LatencyRecord(BundleRecord):
    """The record that `edgeact bench` writes and a regression gate compares."""

    kind: Literal["latency"] = "latency"
    input_shape: tuple[int, ...]
    latency: Latency
    input_source: Literal["golden", "random"] | None = Field(default=None, description="source of the timed input")
    stages: Mapping[str, Latency] = Field(
        default_factory=dict, description="preprocess, inference and total of predict"
    )
    sensors_before: Sensors | None = None
    sensors_after: Sensors | None = None
    notes: tuple[str, ...] = Field(
        default=(), description="conditions that make the numbers less reliable: a changed clock, throttling ..."
    )


class SearchRecipe(Record):
    """Everything that the trials of a search share; with the choices of a trial it reproduces its model."""

    source: str = Field(description="registry name or 'package.module:factory'")
    weights: str | None = Field(description="path of the file; None: shipped weights, or those of the factory")
    weights_sha256: str
    labels: tuple[str, ...]
    width: int | None
    clip: ClipSpec = Field(description="clip contract of the model")
    data: str = Field(description="data set, as given")
    data_digest: str = Field(description="of the videos that accuracy is measured on")
    calibration_clips: int
    evaluation_videos: int
    accept_poor_calibration: bool
    seed: int
    finetune_epochs: int
    threads: int
    channel_multiple: int
    space_version: int
    stages: Mapping[str, tuple[str, ...]] = Field(description="stage -> its modules")
    patterns: Mapping[str, tuple[str, ...]] = Field(description="prunable stage -> patterns of its layers")


class SearchTrial(Record):
    """A configuration of a search and its results; the trial failed if `failure` is not empty."""

    number: int = Field(ge=0)
    ratios: Mapping[str, Fraction] = Field(description="stage -> pruning ratio of its channels")
    int8: tuple[str, ...] = Field(description="stages in INT8; the others are kept in float")
    clip_frames: int
    size: int = Field(description="height and width of the crop, pixels")
    failure: str = ""
    artifact: str = ""
    precision: Precision = "fp32"
    backend: str = ""
    size_bytes: int = Field(default=0, ge=0)
    parameters: int = Field(default=0, ge=0)
    macs: int = Field(default=0, ge=0)
    weights_sha256: str = ""
    artifacts_sha256: Mapping[str, str] = Field(
        default_factory=dict, description="artifact -> digest of the members a device opens"
    )
    latency: Latency | None = Field(default=None, description="measured; None: estimated, or failed")
    latency_estimate_ms: float | None = Field(default=None, description="roofline estimate; never measured")
    top1: Fraction | None = None
    top1_interval: Interval | None = Field(default=None, description="Wilson 95 %")
    drop: PairedDrop | None = Field(default=None, description="against the unpruned model in PyTorch FP32")
    within_budgets: bool = False

    @property
    def latency_ms(self) -> float | None:
        """The measured median, else the estimate."""
        return self.latency.p50_ms if self.latency else self.latency_estimate_ms


class SearchRecord(Record):
    """The record that `edgeact search` writes; its latencies are measured on `machine`, or estimates for the target."""

    schema_version: str = SCHEMA_VERSION
    kind: Literal["search"] = "search"
    created_utc: str
    model: str
    target: str
    recipe: SearchRecipe
    machine: Machine = Field(description="that timed the trials or, if latencies are estimates, measured accuracy")
    is_estimate: bool = Field(description="whether every latency is an estimate, because the target was not available")
    dataset: str
    split: str
    count: int = Field(ge=1, description="videos that accuracy is measured on")
    reference_top1: Fraction = Field(description="of the unpruned model in PyTorch FP32")
    max_ms: float | None
    max_drop_points: float
    wanted_trials: int
    trials: tuple[SearchTrial, ...] = Field(description="the finished trials, by number")
    front: tuple[int, ...] = Field(description="numbers of the trials of the Pareto front, fastest first")
    chosen: int | None = Field(description="number of the fastest trial of the front within both budgets")
    notes: tuple[str, ...] = ()

    def trial(self, number: int) -> SearchTrial | None:
        """Return the trial `number`; None if the trial is not finished."""
        return next((trial for trial in self.trials if trial.number == number), None)

    @property
    def on_front(self) -> tuple[SearchTrial, ...]:
        """The trials of the Pareto front, fastest first."""
        return tuple(trial for number in self.front if (trial := self.trial(number)))
