"""Two models on disjoint cores in one process, against twice the rate of one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edgeact.records import Interval
from tests.benchmarks.processes import run_child
from tests.benchmarks.records import BenchRow
from tests.benchmarks.workspace import Workspace

__all__ = ["cores", "cores_rows"]

_SHARE = 0.95


def cores(workspace: Workspace) -> list[BenchRow]:
    """Measure the rate of two recognizers of the bundle, each on one core, against that of one, in turns."""
    return cores_rows(workspace, workspace.export("cpu").path)


def cores_rows(workspace: Workspace, bundle: Path) -> list[BenchRow]:
    """Measure the same of any bundle."""
    workspace.on_step("timing two models on disjoint cores")
    program, turns = "tests.benchmarks.cores_child", str(workspace.settings.rounds)
    command: list[str | Path] = [sys.executable, "-m", program, bundle, turns]
    result = json.loads(run_child(command, cores=2).output)
    shares = sorted(result["shares"])
    row = BenchRow(
        name="two models on disjoint cores / twice the rate of one",
        value=shares[len(shares) // 2],
        unit="",
        comparison=">=",
        interval=Interval(low=shares[len(shares) // 10], high=shares[-1 - len(shares) // 10]),
        how=f"median and 80 % of {len(shares)} turns of {result['seconds']} s; {result['ours']}, one thread a model",
    )
    return [row.judged(_SHARE, applies=workspace.settings.limits_apply)]
