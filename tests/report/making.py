"""Make bundles and measurements with known numbers, as an export writes them."""

from __future__ import annotations

from edgeact.bench import summarize
from edgeact.bundle.manifest import Artifact, Calibration, Golden, Manifest, Member, ModelInfo
from edgeact.clip import ClipSpec
from edgeact.records import (
    Accuracy,
    AccuracyRecord,
    ClassAccuracy,
    Interval,
    Latency,
    LayerSensitivity,
    Machine,
    Measurements,
    PairedDrop,
    Parity,
    ParityLimits,
    Row,
    Sensitivity,
)
from edgeact.report import BundleView

LABELS = (
    "clap",
    "fall down",
    "jump",
    "kick left",
    "kick right",
    "pick up",
    "punch",
    "sit down",
    "stand up",
    "walk left",
    "walk right",
    "wave",
)


def make_latency(p50_ms: float, runs: int = 200) -> Latency:
    """Make a latency whose median is `p50_ms`, with a range of some percent."""
    return summarize([p50_ms * (0.97 + 0.06 * i / (runs - 1)) for i in range(runs)], warmup_runs=5, threads=2)


def make_accuracy(
    top1: float, *, level: str = "clip", per_class: int = 40, labels: tuple[str, ...] = LABELS
) -> Accuracy:
    """Make an accuracy of about `top1`, whose mistakes are all in favor of the next class."""
    wrong = [round((1 - top1) * per_class * (2 if index % 2 else 0.5)) for index in range(len(labels))]
    confusion = [[0] * len(labels) for _ in labels]
    for true, mistakes in enumerate(wrong):
        confusion[true][true] = per_class - mistakes
        confusion[true][(true + 1) % len(labels)] += mistakes
    count = per_class * len(labels)
    correct = count - sum(wrong)
    return Accuracy.model_validate(
        {
            "level": level,
            "dataset": "stick-actions",
            "split": "test",
            "data_digest": "d" * 64,
            "count": count,
            "correct": correct,
            "top1": correct / count,
            "top1_interval": Interval(low=max(0.0, correct / count - 0.021), high=min(1.0, correct / count + 0.019)),
            "top5": 0.998,
            "per_class": [
                ClassAccuracy(label=label, count=per_class, correct=per_class - mistakes)
                for label, mistakes in zip(labels, wrong, strict=True)
            ],
            "confusion": confusion,
            "skipped": {"no frame could be decoded": 2},
            "handled": {"variable frame rate": 3},
        }
    )


def make_parity(*, passed: bool = True) -> Parity:
    """Make a parity record."""
    limits = ParityLimits(max_abs_error=None, snr_db=15, top1_agreement=0.97)
    return Parity(clips=64, max_abs_error=0.31, snr_db=24.6, top1_agreement=0.984, limits=limits, passed=passed)


def make_drop(points: float) -> PairedDrop:
    """Make an accuracy drop against the unpruned model that is undecided on 200 videos."""
    return PairedDrop(
        count=200,
        reference_correct=180,
        lost=6,
        gained=4,
        drop_points=points,
        interval=Interval(low=points - 2, high=points + 2),
        p_value=0.75,
        max_drop_points=1.0,
        verdict="undecided",
        count_needed=4000,
    )


def make_rows(labels: tuple[str, ...] = LABELS) -> tuple[Row, ...]:
    """Make six candidates: the reference, four measured (one chosen, one rejected), one with an estimate only."""

    def row(artifact: str, precision: str, backend: str, p50_ms: float | None, top1: float, **others: object) -> Row:
        fields: dict[str, object] = {
            "artifact": artifact,
            "precision": precision,
            "backend": backend,
            "device": "CPU",
            "size_bytes": 7_900_000,
            "parity": make_parity(),
            "accuracy": (make_accuracy(top1, labels=labels),),
            "latency": make_latency(p50_ms) if p50_ms else None,
            "verdict": "candidate",
            "reason": "slower than openvino-int8 by more than the budget allows",
        }
        return Row.model_validate(fields | others)

    return (
        row("pytorch", "fp32", "pytorch", 61.3, 0.958, verdict="reference", reason="what the others are compared with"),
        row("onnx", "fp32", "onnxruntime", 27.4, 0.958),
        row("openvino", "fp32", "openvino", 9.41, 0.956, size_bytes=15_600_000),
        row(
            "openvino-int8",
            "int8",
            "openvino",
            4.27,
            0.951,
            verdict="chosen",
            reason="fastest within the budget of 1 point",
            size_bytes=4_100_000,
        ),
        row(
            "onnx-int8",
            "int8",
            "onnxruntime",
            33.8,
            0.893,
            verdict="rejected",
            reason="parity failed: top-1 agreement 0.91 < 0.97",
            parity=make_parity(passed=False),
        ),
        row(
            "tensorrt-fp16",
            "fp16",
            "tensorrt",
            None,
            0.95,
            accuracy=(),
            parity=None,
            device="SM 8.7",
            latency_estimate_ms=1.83,
            reason="the target was not timed here",
        ),
    )


def make_estimated_rows() -> tuple[Row, ...]:
    """Make the rows of an export for a board that is not available: accuracies and latency estimates."""
    reference, fp32, *_, tensorrt = make_rows()
    fields = {"latency": None, "verdict": "candidate", "accuracy": (make_accuracy(0.95),)}
    return (
        reference.model_copy(update={"latency": None}),
        fp32.model_copy(update=fields | {"latency_estimate_ms": 4.61}),
        tensorrt.model_copy(update=fields),
        tensorrt.model_copy(update=fields | {"artifact": "tensorrt-int8", "precision": "int8"}),
    )


def make_sensitivity(count: int = 45) -> Sensitivity:
    """Make the sensitivity of `count` layers, two of them kept in float, one without error."""
    layers = [
        LayerSensitivity(
            layer=f"node_Conv_{index}",
            weight=f"stages.{index // 12}.{index % 12}.msl.branches.{index % 3}.0.weight",
            macs=1_000_000 * (index + 1),
            snr_db=None if index == 7 else 24.0 + 43 * (index * 7 % count) / count,
            top1_agreement=0.9375 if index == 0 else 1.0,
            float_reason="mixed precision: too much noise" if index in (0, 13) else "",
        )
        for index in range(count)
    ]
    return Sensitivity(
        artifact="openvino-int8",
        clips=16,
        snr_db=19.5,
        top1_agreement=0.875,
        mixed_snr_db=23.25,
        mixed_top1_agreement=1.0,
        layers=tuple(layers),
    )


def make_accuracy_record() -> AccuracyRecord:
    """Make a record as `edgeact evaluate` writes it, by clip and by video."""
    return AccuracyRecord(
        created_utc="2026-01-03T00:00:00Z",
        bundle_digest="5" * 64,
        model="msf-r3d-fsam",
        artifact="onnx-int8",
        precision="int8",
        backend="onnxruntime",
        device="CPU",
        machine=make_machine(),
        accuracy=(make_accuracy(0.9), make_accuracy(0.96, level="video", per_class=20)),
    )


def make_machine() -> Machine:
    """Make a CPU server."""
    return Machine(
        processor="Intel Xeon Platinum 8481C",
        architecture="x86_64",
        cores=2,
        memory_bytes=16 << 30,
        isa=("avx2", "avx512_vnni", "amx_int8"),
        operating_system="Linux 6.1.0",
        board="intel-cpu",
        versions={"onnxruntime": "1.31.1", "openvino": "2026.4.1", "torch": "2.13.0"},
    )


def make_manifest(labels: tuple[str, ...] = LABELS) -> Manifest:
    """Make the manifest of a calibrated bundle with two artifacts and a golden clip."""
    paths = ("graphs/master.onnx", "graphs/openvino.xml", "golden/clip.mp4")
    return Manifest(
        model=ModelInfo(
            name="msf-r3d-fsam",
            source="msf-r3d-fsam",
            parameters=1_940_000,
            macs=1_310_000_000,
            weights_sha256="1" * 64,
            options={"width": 16},
            provenance={"trained on": "stick-actions train, 40 epochs, seed 0"},
        ),
        labels=labels,
        clip=ClipSpec(clip_frames=8, fps=8, resize=(80, 80), crop=(64, 64), mean=(0.45,) * 3, std=(0.225,) * 3),
        target="intel-cpu",
        artifacts=(
            Artifact(name="onnx", kind="onnx", precision="fp32", backends=("onnxruntime",), members=paths[:1]),
            Artifact(
                name="openvino-int8",
                kind="openvino-ir",
                precision="int8",
                backends=("openvino",),
                members=paths[1:2],
                float_layers={"fsam3.fc1": "squeeze layer, two channels", "stem.conv": "3 input channels"},
            ),
        ),
        preferred=("openvino-int8", "onnx"),
        golden=Golden(
            video=paths[2],
            frames_sha256="2" * 64,
            frames_shape=(8, 64, 64, 3),
            input_mean=(0.1, 0.1, 0.1),
            input_std=(1.0, 1.0, 1.0),
            logits=tuple(float(index == 7) for index in range(len(labels))),
            label=labels[7],
        ),
        calibration=Calibration(
            dataset="stick-actions",
            split="train",
            data_digest="3" * 64,
            clips=256,
            videos=240,
            classes=len(labels),
            method="minmax",
            seed=0,
        ),
        decisions=(
            "INT8 kept: 2.2 times faster than FP32, top-1 lower by 0.5 points",
            "the stem is rewritten as space-to-depth",
        ),
        tools={"edgeact": "0.1.0", "openvino": "2026.4.1", "torch": "2.13.0"},
        members=tuple(Member(path=path, size_bytes=10, sha256="4" * 64, role="other") for path in paths),
    )


def make_view(
    name: str = "model.edgeact",
    *,
    rows: tuple[Row, ...] | None = None,
    labels: tuple[str, ...] = LABELS,
    target: str = "intel-cpu",
) -> BundleView:
    """Make a bundle as the report shows it."""
    measurements = Measurements(
        created_utc="2026-01-02T03:04:05Z",
        model="msf-r3d-fsam",
        target=target,
        machine=make_machine(),
        rows=make_rows() if rows is None else rows,
    )
    return BundleView(
        name=name,
        digest="5" * 64,
        size_bytes=12_300_000,
        manifest=make_manifest(labels).model_copy(update={"target": target}),
        measurements=measurements,
    )
