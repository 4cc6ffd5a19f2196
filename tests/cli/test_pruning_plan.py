"""The table of a pruning plan."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgeact.cli.pruning_plan import plan_table
from edgeact.export.prune import PruneRequest, plan_pruning
from edgeact.phrases import phrase
from edgeact.pruning_reasons import KeepReason, ReasonKind
from tests.export.prune.networks import CLIP, calibrated


@pytest.mark.slow
def test_the_table_has_every_layer_and_the_sums() -> None:
    plan = plan_pruning(calibrated("msf-r3d-fsam"), CLIP.input_shape, PruneRequest(0.5))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(plan_table(plan))
    text = console.export_text()
    assert "stages.1.0.msl.branches.1.0" in text
    assert "8 → 4" in text
    assert f"{plan.parameters[0]:,} → {plan.parameters[1]:,}" in text
    assert phrase(KeepReason(ReasonKind.no_channel_parameters)) in text
