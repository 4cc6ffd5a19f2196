"""The engine by instruction set against a capped peer, and two models on disjoint cores, with small networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeact.runtime import get_backend
from edgeact.runtime.native.library import supported_isas
from tests.benchmarks.cores import cores
from tests.benchmarks.isa import isa
from tests.benchmarks.records import BenchSettings
from tests.benchmarks.workspace import Workspace

pytestmark = [pytest.mark.timing, pytest.mark.slow]


def test_every_instruction_set_and_disjoint_cores_have_their_rows(tmp_path: Path) -> None:
    if reason := get_backend("native").why_unavailable():
        pytest.skip(reason)
    workspace = Workspace(BenchSettings.quick(rounds=2), tmp_path, lambda _step: None)
    rows = isa(workspace)
    subjects = ("bundle", "shipped bundle", "pruned bundle")
    assert {row.name.split(": times")[0] for row in rows} == {
        f"{i}: {name}" for i in supported_isas() for name in subjects
    }
    assert all("native-int8 on native" in row.how or "openvino" in row.how for row in rows)
    assert all("EDGEACT_NATIVE_ISA=" in row.how and "ONEDNN_MAX_CPU_ISA=" in row.how for row in rows)
    assert all(row.passed is None for row in rows)  # the limits are those of the full size
    assert next(row for row in rows if row.name.startswith("avx2: bundle")).how.count("avx2") >= 2  # the peer obeys
    assert {gap.subject for gap in workspace.gaps} == {
        f"rows of {name}" for name in ("avx2", "avx-vnni", "avx512-vnni", "amx-int8") if name not in supported_isas()
    }
    (share,) = cores(workspace)
    assert share.value > 0
