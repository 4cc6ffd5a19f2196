"""Format values of records as short text; page, Markdown and command line share it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from edgeact.phrases import phrase
from edgeact.records import (
    Accuracy,
    AccuracyRecord,
    ClassAccuracy,
    Interval,
    Latency,
    LatencyRecord,
    Machine,
    PairedDrop,
    Parity,
    Row,
    SearchTrial,
)

__all__ = [
    "DROP_HEAD",
    "NONE",
    "Text",
    "accuracy_facts",
    "accuracy_key",
    "bytes_text",
    "class_text",
    "counts_text",
    "drop_text",
    "latency_facts",
    "latency_text",
    "machine_facts",
    "machine_name",
    "ms",
    "p50_text",
    "parity_text",
    "percent",
    "reason_text",
    "share_text",
    "snr_text",
    "stages_text",
    "tail_text",
    "threads_text",
    "top1_text",
    "trial_latency_text",
]

NONE = "n/a"
"""Text of a missing value."""

DROP_HEAD = "accuracy drop, points (95 %); McNemar"
"""Column head of `drop_text`."""


class Text(NamedTuple):
    """A short text, and a detail that a page may show smaller."""

    main: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.main} {self.detail}".rstrip()


def ms(value: float) -> str:
    """Format milliseconds with three significant digits, without the unit."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{min(max(digits, 0), 4)}f}"


def percent(fraction: float) -> str:
    """Format a fraction as a percentage with one decimal, without the sign."""
    return f"{100 * fraction:.1f}"


def share_text(share: float) -> str:
    """Format a fraction for a custom property of the style sheet."""
    return f"{share:.3f}"


def snr_text(snr_db: float | None) -> str:
    """Format a signal-to-noise ratio with one decimal; None stands for equal signals."""
    return "no error" if snr_db is None else f"{snr_db:.1f} dB"


def bytes_text(size_bytes: int) -> str:
    """Format a size in the largest decimal unit in which it is at least 1."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def parity_text(parity: Parity | None) -> Text:
    """Format whether parity passed; the detail has top-1 agreement, SNR, largest error and number of clips."""
    if parity is None:
        return Text(NONE)
    return Text(
        "pass" if parity.passed else "FAIL",
        f"top-1 {percent(parity.top1_agreement)} %, {snr_text(parity.snr_db)}, "
        f"max error {parity.max_abs_error:.2g}, {parity.clips} clips",
    )


def accuracy_key(accuracy: Accuracy) -> str:
    """Return data set, split and level as a column head; accuracies with equal heads are comparable."""
    return f"{accuracy.dataset} {accuracy.split}, {accuracy.level}s"


def top1_text(accuracy: Accuracy | None) -> Text:
    """Format top-1; the detail has the 95 % confidence interval and the number of samples."""
    if accuracy is None:
        return Text(NONE)
    interval = _interval(accuracy.top1_interval, percent)
    return Text(f"{percent(accuracy.top1)} %", f"{interval}, n = {accuracy.count}")


def latency_text(row: Row) -> Text:
    """Format the measured p50 with its 95 % confidence interval, else the estimate, labeled as such."""
    if row.latency is not None:
        return p50_text(row.latency)
    if row.latency_estimate_ms is None:
        return Text(NONE)
    return Text(f"≈ {ms(row.latency_estimate_ms)} ms", "estimate")


def p50_text(latency: Latency) -> Text:
    """Format the measured median; the detail is its 95 % confidence interval."""
    return Text(f"{ms(latency.p50_ms)} ms", _interval(latency.p50_interval, ms))


def tail_text(value_ms: float | None) -> str:
    """Format a high percentile; None stands for too few runs."""
    return NONE if value_ms is None else f"{ms(value_ms)} ms"


def trial_latency_text(trial: SearchTrial) -> str:
    """Format the latency of a trial, labeled if it is an estimate."""
    if trial.latency_ms is None:
        return NONE
    return f"{ms(trial.latency_ms)} ms" if trial.latency else f"≈ {ms(trial.latency_ms)} ms estimate"


def reason_text(row: Row) -> str:
    """Return the reason of a verdict in English."""
    return row.reason if row.typed_reason is None else phrase(row.typed_reason)


def machine_name(machine: Machine) -> str:
    """Return the board, if known, and the processor."""
    return f"{machine.board} ({machine.processor})" if machine.board else machine.processor


def machine_facts(machine: Machine) -> dict[str, str]:
    """Return the known properties of a machine by name, the most important first."""
    clock = None if machine.clock_mhz is None else f"{machine.clock_mhz:.0f} MHz"
    facts = {
        "board": machine.board,
        "processor": f"{machine.processor} ({machine.architecture}, {machine.cores} cores)",
        "instruction sets": ", ".join(machine.isa),
        "accelerator": machine.accelerator,
        "memory": f"{machine.memory_bytes / 2**30:.1f} GiB",
        "power mode": machine.power_mode,
        "clock": clock,
        "operating system": machine.operating_system,
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(machine.versions.items())),
    }
    return {name: fact for name, fact in facts.items() if fact}


def latency_facts(record: LatencyRecord) -> dict[str, str]:
    """Return the cells of a latency record's table row by column head."""
    latency = record.latency
    return {
        "artifact": f"{record.model} / {record.artifact}",
        "precision": record.precision,
        "runs on": f"{record.backend} on {record.device}, {threads_text(latency)}",
        "p50": str(p50_text(latency)),
        "p90": tail_text(latency.p90_ms),
        "p99": tail_text(latency.p99_ms),
        "runs": str(latency.runs),
        "machine": machine_name(record.machine),
        "measured": record.created_utc,
        "notes": "; ".join(record.notes) or NONE,
    }


def accuracy_facts(record: AccuracyRecord) -> list[dict[str, str]]:
    """Return the cells of an accuracy record's table rows by column head, a row for each level."""
    return [
        {
            "artifact": f"{record.model} / {record.artifact}",
            "precision": record.precision,
            "runs on": f"{record.backend} on {record.device}",
            "data": f"{accuracy.dataset} {accuracy.split}",
            "level": accuracy.level,
            "top-1": f"{percent(accuracy.top1)} % {_interval(accuracy.top1_interval, percent)}",
            "count": str(accuracy.count),
            "videos skipped": counts_text(accuracy.skipped) or "none",
            "irregular videos used": counts_text(accuracy.handled) or "none",
            "machine": machine_name(record.machine),
            "measured": record.created_utc,
        }
        for accuracy in record.accuracy
    ]


def counts_text(counts: Mapping[str, int]) -> str:
    """Format numbers of videos by reason; empty if there are none."""
    return "; ".join(f"{reason}: {number}" for reason, number in counts.items())


def threads_text(latency: Latency) -> str:
    """Format the number of threads of the session."""
    if latency.threads is None:
        return "default threads of the backend"
    return f"{latency.threads} thread{'s' if latency.threads != 1 else ''}"


def class_text(part: ClassAccuracy | None) -> str:
    """Format top-1 of a class, without an interval: classes have few samples."""
    return NONE if part is None or part.top1 is None else f"{percent(part.top1)} %"


def drop_text(drop: PairedDrop | None) -> str:
    """Format the accuracy drop on the same videos: points, 95 % confidence interval, verdict, McNemar's p-value."""
    if drop is None:
        return NONE
    interval = _interval(drop.interval, lambda points: f"{points:.1f}")
    return f"{drop.drop_points:.1f} {interval}; {drop.verdict}, p = {drop.p_value:.2g}"


def stages_text(trial: SearchTrial) -> str:
    """Format the choices of a search trial: pruning ratio by stage, stages in INT8, clip."""
    ratios = set(trial.ratios.values())
    pruned = ", ".join(f"{stage} {percent(ratio)} %" for stage, ratio in trial.ratios.items() if ratio > 0)
    if len(trial.ratios) > 1 and len(ratios) == 1 and pruned:
        pruned = f"{percent(ratios.pop())} % of all"
    int8 = ", ".join(trial.int8)
    return f"{pruned or 'nothing'}; {int8 or 'none'}; {trial.clip_frames}x{trial.size}"


def _interval(interval: Interval, text: Callable[[float], str]) -> str:
    return f"[{text(interval.low)}, {text(interval.high)}]"
