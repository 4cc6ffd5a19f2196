from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeact.calibration.paired_test import compare_paired
from edgeact.records import PairedDrop
from tests.benchmarks import accuracy as rows
from tests.benchmarks import weights
from tests.benchmarks.records import BenchSettings
from tests.benchmarks.workspace import Workspace

COUNT = 2400


def _drop(lost: int, gained: int) -> PairedDrop:
    """Compare two models, of which the second loses `lost` and gains `gained` videos."""
    reference, candidate = np.ones(COUNT, bool), np.ones(COUNT, bool)
    candidate[:lost] = False
    reference[lost : lost + gained] = False
    return compare_paired(reference, candidate, 1.0)


@pytest.mark.parametrize(
    ("lost", "gained", "passed"), [(10, 10, (True, True)), (200, 180, (True, False)), (60, 10, (False, False))]
)
def test_claims_limit_the_drop_of_the_pruned_bundle_and_its_upper_bound(
    lost: int, gained: int, passed: tuple[bool, bool]
) -> None:
    drops = dict.fromkeys((*rows.NAMES, "peer"), _drop(1, 1)) | {rows.PRUNED: _drop(lost, gained)}
    claims = rows.claims(drops, applies=True)
    assert [row.passed for row in claims[:3]] == [True, *passed]
    assert all(row.passed is None for row in claims[3:])
    assert f"{lost} lost and {gained} won" in claims[1].how


def test_accuracy_has_no_rows_with_random_weights(tmp_path: Path) -> None:
    steps: list[str] = []
    assert rows.accuracy(Workspace(BenchSettings.quick(), tmp_path, steps.append)) == []
    assert "tests.benchmarks.weights" in steps[0]


def test_bench_settings_full_uses_random_weights_if_none_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path))
    assert weights.trained_weights() is None
    assert not BenchSettings.full().trained
