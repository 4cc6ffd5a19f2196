"""Record of the proof and its Markdown tables."""

from __future__ import annotations

from edgeact.records import Interval, Machine, Record

__all__ = ["CostRow", "Proof", "TrainedRow", "markdown"]


class TrainedRow(Record):
    """One trained model on the clips of the held-out persons, in both precisions on the same clips."""

    name: str
    paper: str
    epochs: int
    """Sum over all phases."""
    parameters: int
    clips: int
    top1: dict[str, float]
    """Accuracy within [0, 1] by precision."""
    interval: dict[str, Interval]
    lost: int
    """Clips that FP32 classifies correctly and INT8 does not."""
    won: int
    """Clips that INT8 classifies correctly and FP32 does not."""
    latency_ms: dict[str, float]
    """Median latency by precision, all models and precisions interleaved."""
    artifact: dict[str, str]


class CostRow(Record):
    """One full-size network in FP32."""

    paper: str
    model: str
    latency_ms: float
    interval: Interval
    macs: int


class Proof(Record):
    """One run of `make proof` on one machine."""

    created_utc: str
    machine: Machine
    threads: int
    rounds: int
    trained: tuple[TrainedRow, ...]
    costs: tuple[CostRow, ...]


def markdown(proof: Proof) -> str:
    """Return the tables of trained models and full-size networks, with the machine below."""
    lines = [
        "| model, width 16 | paper | epochs | M par. | FP32 top-1 (95 %) | INT8 (95 %) | lost, won | FP32 | INT8 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_trained(row) for row in proof.trained),
        "",
        "| model, full size, FP32 | compared in | GMACs | latency (95 %) | against the first |",
        "| --- | --- | --- | --- | --- |",
    ]
    first: dict[str, float] = {}
    for row in proof.costs:
        base = first.setdefault(row.paper, row.latency_ms)
        between = f"{row.latency_ms:.1f} ms ({row.interval.low:.1f} to {row.interval.high:.1f})"
        lines.append(
            f"| `{row.model}` | {row.paper} | {row.macs / 1e9:.2f} | {between} | {row.latency_ms / base:.2f}x |"
        )
    machine = proof.machine
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine.versions.items()))
    measured_on = (
        f"{machine.processor}, {machine.cores} cores, {proof.threads} threads, medians of {proof.rounds} runs in turns"
    )
    return "\n".join([*lines, "", f"{measured_on}; {versions}; {proof.created_utc}.", ""])


def _trained(row: TrainedRow) -> str:
    accuracy = [
        f"{100 * row.top1[precision]:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
        for precision, interval in ((precision, row.interval[precision]) for precision in ("fp32", "int8"))
    ]
    latency = [f"{row.latency_ms[precision]:.2f} ms" for precision in ("fp32", "int8")]
    parameters = f"{row.parameters / 1e6:.2f}"
    cells = [f"`{row.name}`", row.paper, str(row.epochs), parameters, *accuracy, f"{row.lost}, {row.won}", *latency]
    return "| " + " | ".join(cells) + " |"
