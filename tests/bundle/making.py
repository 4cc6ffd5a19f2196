"""A small but complete bundle, the same bytes every time."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from edgeact.bundle import (
    FORMAT_VERSION,
    Artifact,
    Bundle,
    BundleDraft,
    Calibration,
    Golden,
    Manifest,
    ModelInfo,
    write_bundle,
)
from edgeact.bundle.manifest import Role
from edgeact.clip import ClipSpec
from edgeact.records import (
    Accuracy,
    Interval,
    Latency,
    Machine,
    Measurements,
    Parity,
    ParityLimits,
    Row,
)

Members = dict[str, tuple[Role, bytes | Path]]

ENGINE = b"engine code " * 40

MEMBERS: Members = {
    "graphs/model-fp32.onnx": ("graph", b"float graph " * 100),
    "graphs/model-int8.onnx": ("graph", b"int8 graph " * 50),
    "engines/sm89.engine": ("engine", ENGINE),
    "golden/clip.mp4": ("golden-video", bytes(range(256)) * 4),
}

CLIP = ClipSpec(
    clip_frames=8, fps=10.0, resize=(128, 171), crop=(112, 112), mean=(0.43, 0.39, 0.38), std=(0.23, 0.22, 0.22)
)

ARTIFACTS = (
    Artifact(
        name="int8",
        kind="onnx",
        precision="int8",
        backends=("openvino", "onnxruntime"),
        members=("graphs/model-int8.onnx",),
        float_layers={"stem.conv": "three input channels", "fc": "the last layer"},
    ),
    Artifact(
        name="fp32", kind="onnx", precision="fp32", backends=("onnxruntime",), members=("graphs/model-fp32.onnx",)
    ),
    Artifact(
        name="rtx-sm89",
        kind="tensorrt-rtx-engine",
        precision="int8",
        backends=("tensorrt-rtx",),
        members=("engines/sm89.engine",),
        requires={"sm": "8.9", "tensorrt-rtx": "1.7.1"},
    ),
)


def draft() -> BundleDraft:
    """What the bundle states."""
    return BundleDraft(
        model=ModelInfo(
            name="msf-r3d-fsam",
            source="msf-r3d-fsam",
            parameters=21_880_000,
            macs=14_050_000_000,
            weights_sha256=hashlib.sha256(b"weights").hexdigest(),
            options={"width": 64},
            provenance={"dataset": "stick-actions", "epochs": "12"},
        ),
        labels=("walk", "run", "wave", "jump", "Größe zeigen", "挥手"),
        clip=CLIP,
        target="intel-cpu",
        artifacts=ARTIFACTS,
        preferred=("int8", "fp32"),
        golden=Golden(
            video="golden/clip.mp4",
            frames_sha256=hashlib.sha256(b"frames").hexdigest(),
            frames_shape=(8, 120, 160, 3),
            input_mean=(0.1, 0.2, 0.3),
            input_std=(0.9, 0.8, 0.7),
            logits=(1.5, -0.25, 3e-8, 0.1, 0.0, 12.0),
            label="wave",
        ),
        calibration=Calibration(
            dataset="stick-actions",
            split="train",
            data_digest=hashlib.sha256(b"data").hexdigest(),
            clips=64,
            videos=48,
            classes=6,
            method="percentile 99.99, symmetric, per tensor",
            seed=0,
        ),
        decisions=("int8 kept: 5.1 times faster, top-1 drop 0.4 % within the budget of 1 %", "stem left in float"),
        tools={"torch": "2.13.0", "onnx": "1.23.2", "openvino": "2026.4.1"},
    )


def measurements() -> Measurements:
    """Two rows as export writes them."""
    return Measurements(
        created_utc="2026-01-02T03:04:05Z",
        model="msf-r3d-fsam",
        target="intel-cpu",
        machine=Machine(
            processor="Some CPU", architecture="x86_64", cores=2, memory_bytes=8 << 30, operating_system="Linux 6.1"
        ),
        rows=(_row("int8", 16.1), _row("fp32", 92.1)),
    )


def _row(artifact: str, p50_ms: float) -> Row:
    return Row(
        artifact=artifact,
        precision="int8" if artifact == "int8" else "fp32",
        backend="openvino" if artifact == "int8" else "onnxruntime",
        device="CPU",
        size_bytes=550 if artifact == "int8" else 1200,
        parity=Parity(
            clips=32,
            max_abs_error=0.11,
            snr_db=31.2,
            top1_agreement=1.0,
            limits=ParityLimits(max_abs_error=None, snr_db=20.0, top1_agreement=0.97),
            passed=True,
        ),
        accuracy=(
            Accuracy(
                level="video",
                dataset="stick-actions",
                split="test",
                data_digest=hashlib.sha256(b"test data").hexdigest(),
                count=60,
                correct=54,
                top1=0.9,
                top1_interval=Interval(low=0.8, high=0.95),
                top5=1.0,
            ),
        ),
        latency=Latency(
            runs=50,
            warmup_runs=5,
            threads=2,
            mean_ms=p50_ms + 0.2,
            min_ms=p50_ms - 0.3,
            max_ms=p50_ms + 4,
            p50_ms=p50_ms,
            p90_ms=p50_ms + 0.5,
            p99_ms=None,
            p50_interval=Interval(low=p50_ms - 0.1, high=p50_ms + 0.1),
        ),
        verdict="chosen" if artifact == "int8" else "candidate",
        reason="fastest within the accuracy budget" if artifact == "int8" else "slower",
    )


def make(path: Path, measured: bool = True) -> Bundle:
    """The bundle, written to `path`."""
    return write_bundle(path, draft(), MEMBERS, measurements() if measured else None)


GOLDEN = Path(__file__).parent / "golden"


def write_golden() -> None:
    """Renew the committed files after a deliberate change of the format: `python -m tests.bundle.making`."""
    make(GOLDEN / f"bundle-{FORMAT_VERSION}.edgeact", measured=False)
    make(GOLDEN / f"measured-{FORMAT_VERSION}.edgeact")
    schema = json.dumps(Manifest.model_json_schema(), indent=2, sort_keys=True)
    (GOLDEN / "manifest.schema.json").write_text(schema + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_golden()
