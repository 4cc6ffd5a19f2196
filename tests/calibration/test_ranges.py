from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.calibration.ranges import TOLERANCE, Ranges, TensorRange, checkpoints, settled


@given(st.integers(1, 3000))
def test_checkpoints_contain_half_and_all_clips(clips: int) -> None:
    counts = checkpoints(clips)
    assert list(counts) == sorted(set(counts))
    assert counts[-1] == clips
    assert max(1, clips // 2) in counts
    assert all(1 <= count <= clips for count in counts)


CASES = {
    "steady": ({8: 1.0, 16: 1.0, 32: 1.0}, (0.0, 8)),
    "growing in the first half": ({8: 0.5, 16: 1.0, 32: 1.0}, (0.0, 16)),
    "growing in the second half": ({8: 0.5, 16: 0.9, 32: 1.0}, (0.1, None)),
    "unstable in the second half": ({8: 1.0, 16: 1.0, 24: 2.0, 32: 1.0}, (1.0, None)),
    "within the tolerance": ({8: 0.97, 16: 0.99, 32: 1.0}, (0.01, 8)),
    "zeros only": ({1: 0.0, 2: 0.0}, (0.0, 1)),
    "a value in the last clip": ({1: 0.0, 2: 1.0}, (1.0, None)),
    "one clip": ({1: 1.0}, (0.0, None)),
}


@pytest.mark.parametrize("case", CASES)
def test_settled_requires_a_stable_second_half(case: str) -> None:
    limits, (change, after) = CASES[case]
    last_change, settled_after = settled(limits)
    assert last_change == pytest.approx(change)
    assert settled_after == after


@given(st.lists(st.floats(0.01, 100), min_size=6, max_size=6))
def test_settled_limits_remain_within_the_tolerance(values: list[float]) -> None:
    limits = dict(zip(checkpoints(32), values, strict=False))
    end = limits[max(limits)]
    _, after = settled(limits)
    inside = {count for count, limit in limits.items() if abs(limit - end) <= TOLERANCE * end}
    if after is None:
        assert not {count for count in limits if count >= 16} <= inside
    else:
        assert {count for count in limits if count >= after} <= inside
        before = [count for count in limits if count < after]
        assert not before or max(before) not in inside


def _tensor(change: float, after: int | None) -> TensorRange:
    return TensorRange(layer="conv", low=-1, high=2, limit=2, last_change=change, settled_after=after)


def test_ranges_summary_of_settled_and_unsettled_tensors() -> None:
    stable = Ranges(method="minmax", clips=64, tensors={"a": _tensor(0.0, 8), "b": _tensor(0.01, 24)})
    assert stable.settled_after == 24
    assert stable.summary == "the ranges settled after 24 of 64 clips"
    tensors = {"a": _tensor(0.06, None), "b": _tensor(0.01, 24), "c": _tensor(0.25, None)}
    unstable = Ranges(method="minmax", clips=64, tensors=tensors)
    assert unstable.settled_after is None
    assert unstable.unsettled == ("c", "a")
    assert "the second half of 64 clips changed 2 of 3 by more than 5%" in unstable.summary
    assert "that of 'c', 25.0%; calibrate on more clips" in unstable.summary


def test_tensor_range_scale_is_a_127th_of_the_limit() -> None:
    assert _tensor(0, 8).scale == 2 / 127
