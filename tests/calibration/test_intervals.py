from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.calibration.intervals import drop_interval, proportion_interval
from edgeact.calibration.paired_test import count_needed


@given(st.integers(1, 400), st.data())
def test_proportion_interval_is_wilsons(count: int, draw: st.DataObject) -> None:
    correct = draw.draw(st.integers(0, count))
    interval = proportion_interval(correct, count)
    z, fraction = 1.959963984540054, correct / count
    center = (fraction + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(fraction * (1 - fraction) / count + z * z / (4 * count * count))
    assert interval.low == pytest.approx(center - half, abs=1e-9)
    assert interval.high == pytest.approx(center + half, abs=1e-9)
    assert 0.0 <= interval.low <= fraction <= interval.high <= 1.0


def test_drop_interval_covers_the_true_drop_about_95_percent_of_the_time() -> None:
    """Counts are drawn from 4 % lost and 2 % gained of 300 videos."""
    rng = np.random.default_rng(1)
    covered = 0
    for lost, gained, _ in rng.multinomial(300, (0.04, 0.02, 0.94), size=300):
        interval = drop_interval(300, int(lost), int(gained))
        covered += interval.low <= 2.0 <= interval.high
    assert 0.92 <= covered / 300 <= 0.99


@pytest.mark.slow
def test_drop_interval_on_count_needed_videos_has_80_percent_power() -> None:
    count, rng = count_needed(0.06, 0.04), np.random.default_rng(2)
    draws = rng.multinomial(count, (0.05, 0.01, 0.94), size=400)
    detected = sum(drop_interval(count, int(lost), int(gained)).low > 0 for lost, gained, _ in draws)
    assert 0.7 <= detected / 400 <= 0.9


def test_drop_interval_is_deterministic() -> None:
    assert drop_interval(200, 6, 4) == drop_interval(200, 6, 4)
