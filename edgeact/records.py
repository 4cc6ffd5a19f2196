"""Versioned records of what was measured, where and with what: written as JSON, shown by reports, compared by gates.

Numbers carry their unit in the name. A record never holds an estimate without saying so.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgeact.clip import ClipSpec
from edgeact.reasons import Decision, Reason

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
    "Precision",
    "Row",
    "SearchRecipe",
    "SearchRecord",
    "SearchTrial",
    "Sensitivity",
    "Sensors",
    "Verdict",
]

SCHEMA_VERSION = "1.2"

Precision = Literal["fp32", "fp16", "int8"]
Verdict = Literal["chosen", "candidate", "rejected", "reference"]
PairedVerdict = Literal["keeps", "loses", "undecided"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Record(BaseModel):
    """Common behaviour: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Interval(Record):
    """A two-sided 95 % interval."""

    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether they share a value: what they surround is then not told apart."""
        return self.low <= other.high and other.low <= self.high


class Machine(Record):
    """The machine and software a number belongs to; two records are comparable when `fingerprint` is equal."""

    processor: str = Field(description="CPU model, or the board's name")
    architecture: str
    cores: int = Field(ge=1)
    memory_bytes: int = Field(ge=0)
    isa: tuple[str, ...] = Field(default=(), description="instruction sets that decide INT8 and BF16 speed")
    operating_system: str
    board: str | None = Field(default=None, description="device profile id where the board was recognised")
    accelerator: str | None = None
    power_mode: str | None = None
    clock_mhz: float | None = None
    versions: dict[str, str] = Field(default_factory=dict, description="package -> version; not in the fingerprint")

    @property
    def fingerprint(self) -> str:
        """Digest of the hardware and power state; library versions are left out, they are what a gate watches."""
        parts = (self.processor, self.architecture, self.cores, self.memory_bytes >> 30, *self.isa)
        text = "|".join(map(str, (*parts, self.board, self.accelerator, self.power_mode)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class ParityLimits(Record):
    """What an artifact must reach against PyTorch FP32 to pass; fixed per precision."""

    max_abs_error: float | None = Field(description="largest absolute logit error; None: not limited")
    snr_db: float
    top1_agreement: Fraction


class Parity(Record):
    """Agreement of an artifact's logits with PyTorch FP32 on the same clips."""

    clips: int = Field(ge=1)
    max_abs_error: float = Field(ge=0)
    snr_db: float | None = Field(description="10 log10(signal power / error power); None: no error at all")
    top1_agreement: Fraction
    limits: ParityLimits
    passed: bool


class ClassAccuracy(Record):
    """Accuracy of one class."""

    label: str
    count: int = Field(ge=0)
    correct: int = Field(ge=0)


class Accuracy(Record):
    """Top-1 and top-5 over a labelled data set, of clips or of videos (mean of a video's non-overlapping clips)."""

    level: Literal["clip", "video"]
    dataset: str
    split: str
    data_digest: str = Field(description="SHA-256 over the sorted references, labels and file digests")
    count: int = Field(ge=1)
    correct: int = Field(ge=0)
    top1: Fraction
    top1_interval: Interval = Field(description="Wilson 95 %; for clips of one video it is too narrow and videos count")
    top5: Fraction | None = Field(description="None where there are fewer than six classes")
    per_class: tuple[ClassAccuracy, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = Field(default=(), description="[true][predicted] counts")
    skipped: dict[str, int] = Field(default_factory=dict, description="reason -> number of videos left out")
    handled: dict[str, int] = Field(default_factory=dict, description="oddity -> number of videos used in spite of it")


class PairedDrop(Record):
    """What one model loses against another on the same videos, in points of top-1; below 0 it is the better one."""

    count: int = Field(ge=1, description="videos both were run on")
    reference_correct: int = Field(ge=0)
    lost: int = Field(ge=0, description="videos only the reference recognised")
    gained: int = Field(ge=0, description="videos only the other one recognised")
    drop_points: float
    interval: Interval = Field(description="points; 95 %, paired bootstrap over videos")
    p_value: Fraction = Field(description="McNemar's exact test, two-sided: both are equally right")
    max_drop_points: float = Field(description="what the verdict is about")
    verdict: PairedVerdict = Field(description="keeps or loses where the whole interval does, else undecided")
    count_needed: int = Field(ge=1, description="videos that a verdict on one point takes, at 80 % power")


class Latency(Record):
    """Latency of one clip through one open session, in milliseconds; no outlier removed."""

    runs: int = Field(ge=1)
    warmup_runs: int = Field(ge=0)
    threads: int | None
    mean_ms: float
    min_ms: float
    max_ms: float
    p50_ms: float
    p90_ms: float | None = Field(description="None where there were too few runs for it")
    p99_ms: float | None = Field(description="None where there were too few runs for it")
    p50_interval: Interval = Field(description="95 %, from order statistics")
    samples_ms: tuple[float, ...] = ()


class Row(Record):
    """One variant of a model: an artifact on a backend, everything known about it, and what was decided."""

    artifact: str = Field(description="name of the artifact in the bundle, or of the reference")
    precision: Precision
    backend: str
    device: str = Field(description="'CPU', 'CUDA:0', 'SM 8.9' ...")
    size_bytes: int = Field(ge=0)
    parity: Parity | None = None
    accuracy: tuple[Accuracy, ...] = ()
    latency: Latency | None = None
    latency_estimate_ms: float | None = Field(default=None, description="roofline estimate; never measured")
    drop: PairedDrop | None = Field(default=None, description="against the unpruned model, where this export pruned it")
    verdict: Verdict
    reason: str = Field(description="in English")
    typed_reason: Reason | None = Field(default=None, description="the same with types and fields; None before 1.2")


class LayerSensitivity(Record):
    """What INT8 in one layer alone does to the network's output."""

    layer: str = Field(description="name of the node in the ONNX graph")
    weight: str = Field(description="name of its weight: the state dict's where the exporter kept it")
    macs: int = Field(ge=0)
    snr_db: float | None = Field(description="at the output, against the float graph; None: no error at all")
    top1_agreement: Fraction
    float_reason: str = Field(default="", description="why mixed INT8 leaves it in float; empty: it does not")


class Sensitivity(Record):
    """The damage of INT8 by layer, on calibration clips, for the layers that no rule leaves in float."""

    artifact: str = Field(description="the artifact whose graph was looked at")
    clips: int = Field(ge=1)
    snr_db: float | None = Field(description="with all layers in INT8; None: no error at all")
    top1_agreement: Fraction
    mixed_snr_db: float | None = Field(default=None, description="with the layers that have a float_reason in float")
    mixed_top1_agreement: Fraction | None = Field(default=None, description="None: no mixed INT8 was looked for")
    layers: tuple[LayerSensitivity, ...] = Field(description="in the graph's order")


class Measurements(Record):
    """All rows of one bundle, measured on one machine."""

    schema_version: str = SCHEMA_VERSION
    kind: Literal["measurements"] = "measurements"
    created_utc: str
    model: str
    target: str
    machine: Machine
    rows: tuple[Row, ...]
    sensitivity: tuple[Sensitivity, ...] = Field(default=(), description="of each INT8 graph that was looked into")
    decisions: tuple[Decision, ...] = Field(default=(), description="of the build, with types and fields")


class BundleRecord(Record):
    """Which artifact of which bundle was measured, when and where: the head of the records made of a bundle."""

    schema_version: str = SCHEMA_VERSION
    kind: str
    created_utc: str
    bundle_digest: str = Field(description="digest of the bundle's manifest")
    model: str
    artifact: str
    precision: Precision
    backend: str
    device: str
    machine: Machine


class AccuracyRecord(BundleRecord):
    """What `edgeact evaluate` writes."""

    kind: Literal["accuracy"] = "accuracy"
    accuracy: tuple[Accuracy, ...]


class Sensors(Record):
    """What the machine's sensors showed at one moment; None where there is no such sensor."""

    cpu_clock_mhz: float | None = Field(default=None, description="of the fastest core")
    gpu_clock_mhz: float | None = None
    temperature_c: float | None = Field(default=None, description="of the hottest thermal zone")
    power_w: float | None = Field(default=None, description="of the whole board")
    is_throttling: bool | None = Field(default=None, description="a thermal governor holds a clock down")
    throttle_events: int | None = Field(default=None, description="counted by the processor since it was started")


class LatencyRecord(BundleRecord):
    """What `edgeact bench` writes and a regression gate compares."""

    kind: Literal["latency"] = "latency"
    input_shape: tuple[int, ...]
    latency: Latency
    input_source: Literal["golden", "random"] | None = Field(default=None, description="what the timed input was")
    stages: dict[str, Latency] = Field(default_factory=dict, description="predict's preprocess, inference and total")
    sensors_before: Sensors | None = None
    sensors_after: Sensors | None = None
    notes: tuple[str, ...] = Field(default=(), description="what makes the numbers less sure: a moved clock, heat ...")


class SearchRecipe(Record):
    """What all trials of a search have in common: with a trial's choices it makes that trial's model again."""

    source: str = Field(description="registry name or 'package.module:factory'")
    weights: str | None = Field(description="path of the file; None: those that are shipped, or that the factory makes")
    weights_sha256: str
    labels: tuple[str, ...]
    width: int | None
    clip: ClipSpec = Field(description="the model's own")
    data: str = Field(description="data set, as given")
    data_digest: str = Field(description="of the videos accuracy was counted on")
    calibration_clips: int
    evaluation_videos: int
    accept_poor_calibration: bool
    seed: int
    finetune_epochs: int
    threads: int
    channel_multiple: int
    space_version: int
    stages: dict[str, tuple[str, ...]] = Field(description="stage -> modules in it")
    patterns: dict[str, tuple[str, ...]] = Field(description="stage that can be pruned -> patterns of its layers")


class SearchTrial(Record):
    """One configuration: what was chosen, and what came of it. Failed where `failure` says why."""

    number: int = Field(ge=0)
    ratios: dict[str, Fraction] = Field(description="stage -> share of its channels that goes")
    int8: tuple[str, ...] = Field(description="stages in INT8; the others are in float")
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
    artifacts_sha256: dict[str, str] = Field(
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
    """What `edgeact search` writes; latencies are all measured on `machine`, or all estimates for the target."""

    schema_version: str = SCHEMA_VERSION
    kind: Literal["search"] = "search"
    created_utc: str
    model: str
    target: str
    recipe: SearchRecipe
    machine: Machine = Field(description="that timed the trials; where latency is estimated, that counted accuracy")
    is_estimate: bool = Field(description="whether the target was not at hand, and every latency is an estimate")
    dataset: str
    split: str
    count: int = Field(ge=1, description="videos accuracy was counted on")
    reference_top1: Fraction = Field(description="of the unpruned model in PyTorch FP32")
    max_ms: float | None
    max_drop_points: float
    wanted_trials: int
    trials: tuple[SearchTrial, ...] = Field(description="those that are finished, by number")
    front: tuple[int, ...] = Field(description="numbers of the trials that none is better than in both, fastest first")
    chosen: int | None = Field(description="the fastest trial of the front within both budgets")
    notes: tuple[str, ...] = ()

    def trial(self, number: int) -> SearchTrial | None:
        """The trial of that number, where it is finished."""
        return next((trial for trial in self.trials if trial.number == number), None)

    @property
    def on_front(self) -> tuple[SearchTrial, ...]:
        """The trials of the front."""
        return tuple(trial for number in self.front if (trial := self.trial(number)))
