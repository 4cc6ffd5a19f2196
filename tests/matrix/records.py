"""What the full matrix is kept as, and how it is printed."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from edgeact.clip import ClipSpec
from edgeact.records import Machine, Record
from tests.matrix.sweep import PRECISIONS, Cell, matrix_models, runtimes

__all__ = ["Line", "Matrix", "markdown", "ordered", "updated"]

_INTRODUCTION = """\
# Export matrix

Every model of the registry, and every attention module that no row has, at its paper's size with settled random
weights, exported by the steps of `edgeact export` and compared with PyTorch on made-up clips. Written by `make matrix`;
`make test` does the same narrow. A cell holds the signal-to-noise ratio of the logits in dB, in FP32 / FP16 / INT8: of
the artifact as ONNX Runtime or OpenVINO runs it here; for TensorRT, of the graph that the release is given, run in ONNX
Runtime. TensorRT for RTX compiled an engine for that SM; for the TensorRT releases of Jetson Orin the linter let the
graph pass and TensorRT for RTX compiled it for SM 8.6, Orin's relative. None of them was run on a GPU.

`!` marks less than the exporter asks for (80, 35 and 10 dB): such an artifact is not shipped. OpenVINO computes its
FP16 artifact in the precision the processor prefers, bfloat16 where it has AMX. A letter is a hole, explained below.
Random weights say nothing about accuracy.
"""


class Line(Record):
    """All cells of one model, and what the process that made them took."""

    model: str
    formula: str
    clip: ClipSpec
    cells: tuple[Cell, ...]
    created_utc: str = ""
    wall_s: float = 0.0
    peak_bytes: int = Field(default=0, description="largest resident memory of that process")
    failure: str = Field(default="", description="the last lines of a process that ended without cells")


class Matrix(Record):
    """The lines made so far, in the registry's order, and the machine and versions of the last run."""

    machine: Machine
    lines: tuple[Line, ...]


def markdown(matrix: Matrix) -> str:
    """docs/matrix.md."""
    reasons: dict[str, str] = {}
    columns = runtimes()
    head = ["model", *columns, "time", "memory"]
    rows = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for line in matrix.lines:
        cells = [_text(line, column, reasons) for column in columns]
        rows.append(f"| `{line.model}` | {' | '.join(cells)} | {line.wall_s:.0f} s | {line.peak_bytes / 1e9:.1f} GB |")
    holes = [f"* **{letter}** {reason}" for reason, letter in reasons.items()]
    machine = matrix.machine
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine.versions.items()))
    told = (
        f"Last run: {machine.processor}, {machine.cores} cores. {versions}. Time and memory are one process a model, "
        "on one core or two and beside other work: they say what is possible, not how fast it is."
    )
    done = {line.model for line in matrix.lines}
    missing = ", ".join(f"`{name}`" for name in matrix_models() if name not in done)
    notes = [*(holes or ["There is no hole."]), *([f"Not run yet: {missing}."] if missing else [])]
    return "\n".join([_INTRODUCTION, *rows, "", *notes, "", told, ""])


def _text(line: Line, column: str, reasons: dict[str, str]) -> str:
    if line.failure:
        return _letter(line.failure, reasons)
    found = {cell.precision: cell for cell in line.cells if cell.runtime == column}
    return " / ".join(_short(found.get(precision), reasons) for precision in PRECISIONS)


def _short(cell: Cell | None, reasons: dict[str, str]) -> str:
    if cell is None:
        return "-"
    if cell.parity is None:
        return _letter(cell.reason, reasons)
    snr = "exact" if cell.parity.snr_db is None else f"{cell.parity.snr_db:.0f}"
    return snr + ("" if cell.outcome == "agrees" else "!")


def _letter(reason: str, reasons: dict[str, str]) -> str:
    text = " ".join(reason.split())
    return reasons.setdefault(text, _name(len(reasons)))


def _name(index: int) -> str:
    """a to z, then aa, ab, ..."""
    return (_name(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)


def ordered(lines: Iterable[Line], names: tuple[str, ...]) -> tuple[Line, ...]:
    """The lines of `names`, in their order; of two for one model the later."""
    by_name = {line.model: line for line in lines}
    return tuple(by_name[name] for name in names if name in by_name)


def updated(line: Line, newer: Line) -> Line:
    """`line` with the cells that `newer` has; time and memory stay those of the whole line."""
    if newer.failure:
        return line
    fresh = {cell.runtime for cell in newer.cells}
    return line.model_copy(
        update={"cells": (*newer.cells, *(cell for cell in line.cells if cell.runtime not in fresh))}
    )
