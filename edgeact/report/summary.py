"""A bundle as sentences: the choice and its reason, latency, accuracy, provenance, and what is not measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgeact.devices import load_profile
from edgeact.errors import UnknownNameError
from edgeact.records import Accuracy, Machine, Row
from edgeact.report.formatting import counts_text, machine_name, ms, p50_text, percent, reason_text, threads_text
from edgeact.report.view import BundleView, Point, Scatter

__all__ = [
    "measured_where",
    "point_latency",
    "provenance",
    "scatter_note",
    "scatter_title",
    "summarize_bundle",
    "unnamed_note",
]


def summarize_bundle(bundle: BundleView) -> tuple[str, ...]:
    """Summarize choice, latency and accuracy in sentences."""
    manifest = bundle.manifest
    sentences = [_choice(bundle)]
    if manifest.decide_on_device:
        order = ", ".join(manifest.preferred)
        sentences.append(
            f"The target {manifest.target} was not available: the device times the candidates ({order}) and chooses."
        )
    row = bundle.chosen
    if row:
        return (*sentences, _latency(row), *_accuracy(row, "Top-1"))
    for candidate in bundle.rows:
        if candidate.verdict == "candidate":
            sentences += _accuracy(candidate, f"Top-1 of {candidate.artifact} ({candidate.precision})")
    return tuple(sentences)


def scatter_title(scatter: Scatter) -> str:
    """Return the title of a scatter, which says whether its latencies are estimates."""
    if scatter.estimated_for is None:
        return "Accuracy against latency"
    return f"Accuracy against latency estimates for {_board_name(scatter.estimated_for)}, not measured"


def scatter_note(scatter: Scatter) -> str:
    """Name data and machine of a scatter, and explain how to read it."""
    machine = machine_name(scatter.machine)
    if scatter.estimated_for is None:
        return f"{scatter.data}, on {machine}. Up and to the left is better; bars are 95 % confidence intervals."
    return (
        f"{scatter.data}, measured on {machine}. Every latency is a roofline estimate for "
        f"{_board_name(scatter.estimated_for)}, not measured, and has no error bar. Up and to the left is better; the "
        "vertical bars are 95 % confidence intervals of the accuracy."
    )


def unnamed_note(count: int) -> str:
    """Say that `count` points of a crowded chart carry no name."""
    return f"{count} points carry no name because no place is free; the tables list all."


def point_latency(point: Point) -> str:
    """Format the latency of a point, labeled if it is an estimate."""
    return f"{ms(point.latency_ms)} ms{' (estimate)' if point.is_estimate else ''}"


def measured_where(bundle: BundleView) -> tuple[str, ...]:
    """Say which values were measured, on which machine, and which are estimates."""
    measurements, rows = bundle.measurements, bundle.rows
    if measurements is None:
        return ("The bundle has no measurements.",)
    machine = machine_name(measurements.machine)
    unknown = [row for row in rows if not row.latency and row.latency_estimate_ms is None]
    statements = [
        (f"Latency was measured on {machine}", [row for row in rows if row.latency]),
        ("Latency is a roofline estimate of the target, not measured,", list(bundle.estimated)),
        ("Latency is unknown", unknown),
    ]
    for key in bundle.accuracy_keys:
        evaluated = [row for row in rows if bundle.accuracy(row, key)]
        statements.append((f"Accuracy on {key} was measured on {machine}", evaluated))
    sentences = [f"{statement} for {_names(some, rows)}." for statement, some in statements if some]
    if skipped := bundle.skipped:
        sentences.append(f"Videos skipped ({sum(skipped.values())}): {counts_text(skipped)}.")
    if handled := bundle.handled:
        sentences.append(f"Irregular videos used: {counts_text(handled)}.")
    if not _represents(measurements.machine, measurements.target):
        sentences.append(f"The target is {measurements.target}; the measured values are from another machine.")
    return (*sentences, f"Recorded at {measurements.created_utc}.")


def provenance(bundle: BundleView) -> dict[str, str]:
    """Return the origin of the model, the INT8 ranges and the golden clip by name."""
    manifest = bundle.manifest
    model, clip, calibration, golden = manifest.model, manifest.clip, manifest.calibration, manifest.golden
    source = "" if model.source == model.name else f" from {model.source}"
    facts = {
        "model": f"{model.name}{source}, {model.parameters / 1e6:.2f} M parameters",
        "multiply-accumulates": f"{model.macs / 1e9:.2f} G per clip" if model.macs else "",
        "weights": f"SHA-256 {model.weights_sha256[:16]}",
        **{f"weights, {name}": text for name, text in model.provenance.items()},
        "options": ", ".join(f"{name} {value}" for name, value in model.options.items()),
        "clip": f"{clip.clip_frames} frames at {clip.fps:g} per second, {clip.crop[0]} x {clip.crop[1]} pixels, "
        f"{clip.duration_s:.2f} s of video",
        "labels": f"{len(manifest.labels)}",
    }
    if calibration:
        synthetic = "; SYNTHETIC clips, allowed by an explicit flag" if calibration.synthetic else ""
        facts["INT8 calibration"] = (
            f"{calibration.clips} clips of {calibration.videos} videos and {calibration.classes} classes from "
            f"{calibration.dataset} {calibration.split}, method {calibration.method}, seed {calibration.seed}, "
            f"data {calibration.data_digest[:16]}{synthetic}"
        )
    if golden:
        label = f", true class {golden.label}" if golden.label else ""
        facts["golden clip"] = (
            f"{golden.video}, PyTorch predicts {bundle.golden_prediction}{label}, frames {golden.frames_sha256[:16]}"
        )
    facts["tools"] = ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items()))
    return {name: fact for name, fact in facts.items() if fact}


def _board_name(target: str) -> str:
    try:
        return load_profile(target).title
    except UnknownNameError:
        return target


def _represents(machine: Machine, target: str) -> bool:
    """Return whether `machine` is the target board, or a CPU of the target's architecture for a CPU target."""
    if machine.board == target:
        return True
    try:
        profile = load_profile(target)
    except UnknownNameError:
        return False
    return profile.family == "cpu" and profile.architecture == machine.architecture


def _choice(bundle: BundleView) -> str:
    row = bundle.chosen
    if row is None:
        order = ", then ".join(bundle.manifest.preferred)
        return f"No candidate was chosen on this machine; the device tries {order}."
    return (
        f"{row.artifact} ({row.precision}, {row.backend} on {row.device}) was chosen: {reason_text(row).rstrip('.')}."
    )


def _latency(row: Row) -> str:
    if row.latency:
        latency = row.latency
        return f"One clip takes {p50_text(latency)}: the median of {latency.runs} runs, {threads_text(latency)}."
    if row.latency_estimate_ms is not None:
        return f"One clip takes an estimated {ms(row.latency_estimate_ms)} ms, not measured."
    return "The latency is unknown."


def _accuracy(row: Row, subject: str) -> list[str]:
    """Return a sentence for each data set and split, with all levels, videos first."""
    by_data: dict[str, list[Accuracy]] = {}
    for accuracy in sorted(row.accuracy, key=lambda accuracy: accuracy.level != "video"):
        by_data.setdefault(f"{accuracy.dataset} {accuracy.split}", []).append(accuracy)
    return [
        f"{subject} on {data}: "
        f"{', '.join(f'{percent(level.top1)} % of {level.count} {level.level}s' for level in levels)}."
        for data, levels in by_data.items()
    ]


def _names(some: Sequence[Row], rows: Sequence[Row]) -> str:
    """Name candidates by artifact, and by backend if an artifact runs on several."""
    if len(some) == len(rows):
        return "all candidates"
    artifacts = Counter(row.artifact for row in rows)
    return ", ".join(
        row.artifact if artifacts[row.artifact] == 1 else f"{row.artifact} ({row.backend})" for row in some
    )
