"""The native engine by instruction set, against OpenVINO under the same cap, each pair in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import openvino

from edgeact.errors import ParityError
from edgeact.runtime.native.library import ISA_VARIABLE, Isa, supported_isas
from tests.benchmarks.family import LIMITS, Limits, Matrix
from tests.benchmarks.processes import run_child
from tests.benchmarks.records import BenchRow
from tests.benchmarks.timing import speedup
from tests.benchmarks.weights import PRUNING
from tests.benchmarks.workspace import Workspace

__all__ = ["isa", "isa_rows"]

_PEER_VARIABLE = "ONEDNN_MAX_CPU_ISA"


@dataclass(frozen=True)
class _Cap:
    """The cap that holds OpenVINO to the engine's instruction set, and whose limits hold."""

    peer: str
    limits: Matrix


_CAPS: Mapping[Isa, _Cap] = MappingProxyType(
    {
        "avx2": _Cap("AVX2", "avx2"),
        "avx-vnni": _Cap("AVX2_VNNI", "avx-vnni"),
        "avx512-vnni": _Cap("AVX512_CORE_BF16", "avx512-vnni"),
        "amx-int8": _Cap("DEFAULT", "amx"),
    }
)


def isa(workspace: Workspace) -> list[BenchRow]:
    """Compare the full-size, the shipped and the pruned bundle with their peer by each instruction set of this CPU."""
    for absent in (name for name in _CAPS if name not in supported_isas()):
        workspace.leave_out(f"rows of {absent}", f"needs a processor with {absent}")
    full = _save(workspace, "full", workspace.peer)
    subjects = (
        ("bundle", workspace.export("cpu").path, full, ""),
        ("shipped bundle", workspace.export_shipped().path, _save(workspace, "shipped", workspace.shipped_peer), ""),
        ("pruned bundle", workspace.export("cpu", pruned=True).path, full, f"; {' '.join(PRUNING)}"),
    )
    return [row for name, bundle, peer, how in subjects for row in isa_rows(workspace, name, (bundle, peer), how)]


def isa_rows(workspace: Workspace, name: str, files: tuple[Path, Path], how: str = "") -> list[BenchRow]:
    """Compare one bundle with its peer, OpenVINO IR, by each instruction set of this CPU; `files` are the two.

    Raises ParityError if the logits differ between instruction sets.
    """
    rows, logits = [], []
    for supported in reversed(supported_isas()):
        if supported in _CAPS:
            workspace.on_step(f"timing the {name} by {supported}")
            row, result = _row(workspace, name, supported, files, how)
            rows.append(row)
            logits.append(result)
    if any(result != logits[0] for result in logits):
        raise ParityError(f"{name}: expected equal logits by all instruction sets, got different ones")
    return rows


def _save(workspace: Workspace, name: str, model: openvino.Model) -> Path:
    path = workspace.folder / f"peer-{name}.xml"
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def _row(
    workspace: Workspace, name: str, instructions: Isa, files: tuple[Path, Path], how: str
) -> tuple[BenchRow, object]:
    """Return the ratio by one instruction set, and the bundle's logits."""
    cap, settings = _CAPS[instructions], workspace.settings
    counts = (str(settings.threads), str(settings.rounds))
    command: list[str | Path] = [sys.executable, "-m", "tests.benchmarks.isa_child", *files, *counts]
    caps = {ISA_VARIABLE: instructions, _PEER_VARIABLE: cap.peer}
    result = json.loads(run_child(command, cores=settings.threads, environment=caps).output)
    stated = ", ".join(f"{variable}={value}" for variable, value in caps.items())
    row = speedup(
        f"{instructions}: {name}: times faster than OpenVINO INT8 by NNCF defaults",
        result["ours_ms"],
        result["theirs_ms"],
        f"{stated}; {result['ours']}{how}; peer: {result['theirs']}",
    )
    limit = _limit(name, LIMITS[cap.limits])
    return (row if limit is None else row.judged(limit, applies=settings.limits_apply)), result["logits"]


def _limit(name: str, limits: Limits) -> float | None:
    return {"bundle": limits.full, "shipped bundle": limits.narrow, "pruned bundle": limits.pruned}[name]
