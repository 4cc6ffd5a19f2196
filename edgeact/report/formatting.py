"""Numbers of the records as short text; the page and the Markdown say the same because both say it through here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

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
    "mistakes",
    "ms",
    "p50_text",
    "parity_text",
    "percent",
    "snr_text",
    "stages_text",
    "tail_text",
    "threads_text",
    "top1_text",
]

NONE = "n/a"


class Text(NamedTuple):
    """A short text and what belongs to it, which a page may set smaller."""

    main: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.main} {self.detail}".rstrip()


def ms(value: float) -> str:
    """Milliseconds with three significant digits, without the unit."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{min(max(digits, 0), 4)}f}"


def percent(fraction: float) -> str:
    """A fraction as percent with one decimal, without the sign."""
    return f"{100 * fraction:.1f}"


def snr_text(snr_db: float | None) -> str:
    """A signal-to-noise ratio with one decimal; None stands for equal signals."""
    return "no error" if snr_db is None else f"{snr_db:.1f} dB"


def bytes_text(size_bytes: int) -> str:
    """A size in the largest decimal unit that leaves at least one before the point."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def parity_text(parity: Parity | None) -> Text:
    """Whether it agrees with PyTorch; then top-1 agreement, signal to noise, largest error, number of clips."""
    if parity is None:
        return Text(NONE)
    return Text(
        "pass" if parity.passed else "FAIL",
        f"top-1 {percent(parity.top1_agreement)} %, {snr_text(parity.snr_db)}, "
        f"max error {parity.max_abs_error:.2g}, {parity.clips} clips",
    )


def accuracy_key(accuracy: Accuracy) -> str:
    """What an accuracy is of, as a column head: two accuracies are comparable when it is equal."""
    return f"{accuracy.dataset} {accuracy.split}, {accuracy.level}s"


def top1_text(accuracy: Accuracy | None) -> Text:
    """Top-1; then its 95 % interval and what it was counted over."""
    if accuracy is None:
        return Text(NONE)
    interval = _interval(accuracy.top1_interval, percent)
    return Text(f"{percent(accuracy.top1)} %", f"{interval}, n = {accuracy.count}")


def latency_text(row: Row) -> Text:
    """Measured p50; then its 95 % interval. Where there is none, the estimate, called one."""
    if row.latency is None:
        return (
            Text(NONE) if row.latency_estimate_ms is None else Text(f"≈ {ms(row.latency_estimate_ms)} ms", "estimate")
        )
    return p50_text(row.latency)


def p50_text(latency: Latency) -> Text:
    """The measured median; then its 95 % interval."""
    return Text(f"{ms(latency.p50_ms)} ms", _interval(latency.p50_interval, ms))


def tail_text(value_ms: float | None) -> str:
    """A high percentile, or the dash of one that too few runs were made for."""
    return NONE if value_ms is None else f"{ms(value_ms)} ms"


def machine_name(machine: Machine) -> str:
    """A machine in a few words."""
    return f"{machine.board} ({machine.processor})" if machine.board else machine.processor


def machine_facts(machine: Machine) -> dict[str, str]:
    """What is known about a machine, in the order a reader asks for it."""
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
    """One latency record as the cells of a table row."""
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
    """One accuracy record as the cells of table rows, one row for every level it was counted at."""
    return [
        {
            "artifact": f"{record.model} / {record.artifact}",
            "precision": record.precision,
            "runs on": f"{record.backend} on {record.device}",
            "data": f"{accuracy.dataset} {accuracy.split}",
            "level": accuracy.level,
            "top-1": f"{percent(accuracy.top1)} % {_interval(accuracy.top1_interval, percent)}",
            "count": str(accuracy.count),
            "videos left out": counts_text(accuracy.skipped) or "none",
            "odd videos used": counts_text(accuracy.handled) or "none",
            "machine": machine_name(record.machine),
            "counted": record.created_utc,
        }
        for accuracy in record.accuracy
    ]


def counts_text(counts: dict[str, int]) -> str:
    """Reasons and how many videos each is of; empty where there are none."""
    return "; ".join(f"{reason}: {number}" for reason, number in counts.items())


def threads_text(latency: Latency) -> str:
    """How many threads a session had."""
    if latency.threads is None:
        return "the backend's own threads"
    return f"{latency.threads} thread{'s' if latency.threads != 1 else ''}"


def class_text(own: ClassAccuracy | None) -> str:
    """Top-1 of one class, without an interval: the classes are small."""
    return f"{percent(own.correct / own.count)} %" if own and own.count else NONE


def mistakes(
    labels: tuple[str, ...], confusion: tuple[tuple[int, ...], ...], limit: int = 25
) -> list[tuple[str, str, int, int]]:
    """The most frequent mistakes: true label, predicted label, how often, of how many."""
    found = [
        (labels[true], labels[predicted], count, sum(row))
        for true, row in enumerate(confusion)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    return sorted(found, key=lambda mistake: (-mistake[2], mistake[0], mistake[1]))[:limit]


DROP_HEAD = "points lost, 95 %; McNemar"


def drop_text(drop: PairedDrop | None) -> str:
    """Points of top-1 lost on the same videos; then the 95 % interval, the verdict and McNemar's p."""
    if drop is None:
        return NONE
    interval = _interval(drop.interval, lambda points: f"{points:.1f}")
    return f"{drop.drop_points:.1f} {interval}; {drop.verdict}, p = {drop.p_value:.2g}"


def stages_text(trial: SearchTrial) -> str:
    """What a trial of a search chose: channels taken out by stage, stages in INT8, the clip."""
    shares = set(trial.ratios.values())
    gone = ", ".join(f"{stage} {percent(ratio)} %" for stage, ratio in trial.ratios.items() if ratio > 0)
    if len(trial.ratios) > 1 and len(shares) == 1 and gone:
        gone = f"{percent(shares.pop())} % of all"
    int8 = ", ".join(trial.int8)
    return f"{gone or 'nothing'}; {int8 or 'none'}; {trial.clip_frames}x{trial.size}"


def _interval(interval: Interval, text: Callable[[float], str]) -> str:
    return f"[{text(interval.low)}, {text(interval.high)}]"
