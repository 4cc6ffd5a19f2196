"""A bundle in a few plain sentences: what was chosen and why, how fast, how right, and what is not known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgeact.devices import load_profile
from edgeact.errors import UnknownNameError
from edgeact.records import Accuracy, Machine, Row
from edgeact.report.formatting import counts_text, machine_name, ms, p50_text, percent, threads_text
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
    """The sentences a reader in a hurry needs."""
    manifest = bundle.manifest
    sentences = [_choice(bundle)]
    if manifest.decide_on_device:
        order = ", ".join(manifest.preferred)
        sentences.append(
            f"The target {manifest.target} was not at hand: the device times the candidates ({order}) and decides."
        )
    row = bundle.chosen
    if row:
        return (*sentences, *_speed(row), *_accuracy(row, "Top-1"))
    for candidate in bundle.rows:
        if candidate.verdict == "candidate":
            sentences += _accuracy(candidate, f"Top-1 of {candidate.artifact} ({candidate.precision})")
    return tuple(sentences)


def scatter_title(scatter: Scatter) -> str:
    """What a picture shows, and whether its latencies are estimates."""
    if scatter.estimated_for is None:
        return "Accuracy against latency"
    return f"Accuracy against latency estimates for {_board_name(scatter.estimated_for)}, never measured"


def scatter_note(scatter: Scatter) -> str:
    """Which data and machines a picture's numbers belong to, and how to read it."""
    where = machine_name(scatter.machine)
    if scatter.estimated_for is None:
        return f"{scatter.data}, on {where}. Up and to the left is better; bars are 95 % intervals."
    return (
        f"{scatter.data}, counted on {where}. Every latency is a roofline estimate for "
        f"{_board_name(scatter.estimated_for)} and was never measured, so it has no error bar. Up and to the left is "
        "better; the vertical bars are 95 % intervals of the accuracy."
    )


def unnamed_note(count: int) -> str:
    """Say that `count` points of a crowded chart carry no name."""
    return f"{count} points carry no name because no place is free; the tables list all."


def point_latency(point: Point) -> str:
    """A point's latency, called an estimate where it is one."""
    return f"{ms(point.latency_ms)} ms{' (estimate)' if point.is_estimate else ''}"


def measured_where(bundle: BundleView) -> tuple[str, ...]:
    """Which numbers were measured, on what, and which are estimates."""
    measurements, rows = bundle.measurements, bundle.rows
    if measurements is None:
        return ("Nothing was measured: the bundle holds no measurements.",)
    where = machine_name(measurements.machine)
    unknown = [row for row in rows if not row.latency and row.latency_estimate_ms is None]
    told = [
        (f"Latency was measured on {where}", [row for row in rows if row.latency]),
        ("Latency is only an estimate, a roofline of the target that was never measured,", list(bundle.estimated)),
        ("No latency is known", unknown),
    ]
    for key in bundle.accuracy_keys:
        told.append((f"Accuracy over {key} was counted on {where}", [r for r in rows if bundle.accuracy(r, key)]))
    sentences = [f"{what} for {_named(some, rows)}." for what, some in told if some]
    if skipped := bundle.skipped:
        sentences.append(f"Videos left out ({sum(skipped.values())}): {counts_text(skipped)}.")
    if handled := bundle.handled:
        sentences.append(f"Odd videos that are counted all the same: {counts_text(handled)}.")
    if not _may_stand_for(measurements.machine, measurements.target):
        sentences.append(f"The target is {measurements.target}; the measured numbers are not from it.")
    return (*sentences, f"The record was made at {measurements.created_utc}.")


def provenance(bundle: BundleView) -> dict[str, str]:
    """Where the model, the INT8 ranges and the golden clip came from."""
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
        top = manifest.labels[max(range(len(golden.logits)), key=golden.logits.__getitem__)]
        truth = f", truly {golden.label}" if golden.label else ""
        facts["golden clip"] = f"{golden.video}, PyTorch says {top}{truth}, frames {golden.frames_sha256[:16]}"
    facts["tools"] = ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items()))
    return {name: fact for name, fact in facts.items() if fact}


def _board_name(target: str) -> str:
    try:
        return load_profile(target).title
    except UnknownNameError:
        return target


def _may_stand_for(machine: Machine, target: str) -> bool:
    """Whether numbers of `machine` are the target's own: it is that board, or any CPU of a CPU target's kind."""
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
        return f"No variant was chosen here; the device tries {', then '.join(bundle.manifest.preferred)}."
    return f"{row.artifact} ({row.precision}, {row.backend} on {row.device}) was chosen: {row.reason.rstrip('.')}."


def _speed(row: Row) -> list[str]:
    if row.latency:
        latency = row.latency
        return [f"One clip takes {p50_text(latency)}: the median of {latency.runs} runs, {threads_text(latency)}."]
    if row.latency_estimate_ms is not None:
        return [f"One clip is estimated to take {ms(row.latency_estimate_ms)} ms; that was not measured."]
    return ["Its latency is not known."]


def _accuracy(row: Row, what: str) -> list[str]:
    """A sentence for every data set and split, with all levels that were counted, videos first."""
    by_data: dict[str, list[Accuracy]] = {}
    for accuracy in sorted(row.accuracy, key=lambda accuracy: accuracy.level != "video"):
        by_data.setdefault(f"{accuracy.dataset} {accuracy.split}", []).append(accuracy)
    return [
        f"{what} on {data}: {', '.join(f'{percent(own.top1)} % of {own.count} {own.level}s' for own in levels)}."
        for data, levels in by_data.items()
    ]


def _named(some: Sequence[Row], rows: Sequence[Row]) -> str:
    """Variants by their artifact, and by their backend where an artifact ran on several."""
    if len(some) == len(rows):
        return "all variants"
    artifacts = Counter(row.artifact for row in rows)
    return ", ".join(
        row.artifact if artifacts[row.artifact] == 1 else f"{row.artifact} ({row.backend})" for row in some
    )
