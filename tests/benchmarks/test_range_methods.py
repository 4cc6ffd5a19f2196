from __future__ import annotations

from pathlib import Path

import pytest

from edgeact.calibration.range_methods import METHODS
from edgeact.export.build.data import DataPlan, gather
from tests.benchmarks.range_methods import compare
from tests.export.colours import load_colours, write_colours


@pytest.mark.slow
def test_compare_has_an_outcome_for_each_method(tmp_path: Path) -> None:
    model = load_colours()
    data = gather(DataPlan(f"folder:{write_colours(tmp_path, 6)}", 12), model.labels, model.clip)
    labels = [item.label for item in data.parity.items]
    outcomes = list(compare(model, data.calibration.inputs, data.parity.inputs, labels))
    assert [outcome.ranges.method for outcome in outcomes] == list(METHODS)
    assert all(outcome.parity.snr_db and outcome.parity.snr_db > 20 for outcome in outcomes)
    assert len({outcome.parity.snr_db for outcome in outcomes}) > 1
    assert all(outcome.correct == len(labels) for outcome in outcomes)
    clips, method, *_, clipped, unsettled = outcomes[0].cells(len(labels), len(labels))
    assert (clips, method, clipped) == (str(len(data.calibration)), "minmax", "0")
    assert unsettled.endswith(f"of {len(outcomes[0].ranges.tensors)}")
