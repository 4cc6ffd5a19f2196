"""Accuracy rows: judged by the paired drop and its upper bound, and none at all for random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeact.calibration.paired_test import compare_paired
from edgeact.records import PairedDrop
from tests.benchmarks import accuracy as rows
from tests.benchmarks import weights
from tests.benchmarks.records import BenchSettings
from tests.benchmarks.workshop import Workshop

COUNT = 2400


def _drop(lost: int, gained: int) -> PairedDrop:
    """Two models on the same videos, of which the second loses and gains so many."""
    reference, candidate = np.ones(COUNT, bool), np.ones(COUNT, bool)
    candidate[:lost] = False
    reference[lost : lost + gained] = False
    return compare_paired(reference, candidate, 1.0)


@pytest.mark.parametrize(
    ("lost", "gained", "passed"), [(10, 10, (True, True)), (200, 180, (True, False)), (60, 10, (False, False))]
)
def test_the_pruned_bundle_is_judged_by_its_drop_and_by_the_upper_bound(
    lost: int, gained: int, passed: tuple[bool, bool]
) -> None:
    drops = dict.fromkeys((*rows.NAMES, "peer"), _drop(1, 1)) | {rows.PRUNED: _drop(lost, gained)}
    found = rows.claims(drops, applies=True)
    assert [row.passed for row in found[:3]] == [True, *passed]
    assert all(row.passed is None for row in found[3:])
    assert f"{lost} lost and {gained} won" in found[1].how


def test_random_weights_have_no_accuracy(tmp_path: Path) -> None:
    told: list[str] = []
    assert rows.accuracy(Workshop(BenchSettings.quick(), tmp_path, told.append)) == []
    assert "tests.benchmarks.weights" in told[0]


def test_without_trained_weights_the_full_size_is_taken_with_random_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path))
    assert weights.trained_weights() is None
    assert not BenchSettings.full().trained
