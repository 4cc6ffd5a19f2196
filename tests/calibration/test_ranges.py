"""When ranges count as settled, and what is said of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeact.calibration.ranges import TOLERANCE, Ranges, TensorRange, checkpoints, settled


@given(st.integers(1, 3000))
def test_checkpoints_end_with_the_half_and_all(clips: int) -> None:
    found = checkpoints(clips)
    assert list(found) == sorted(set(found))
    assert found[-1] == clips
    assert max(1, clips // 2) in found
    assert all(1 <= step <= clips for step in found)


CASES = {
    "steady": ({8: 1.0, 16: 1.0, 32: 1.0}, (0.0, 8)),
    "grown in the first half": ({8: 0.5, 16: 1.0, 32: 1.0}, (0.0, 16)),
    "grown in the second half": ({8: 0.5, 16: 0.9, 32: 1.0}, (0.1, None)),
    "back and forth in the second half": ({8: 1.0, 16: 1.0, 24: 2.0, 32: 1.0}, (1.0, None)),
    "within the tolerance": ({8: 0.97, 16: 0.99, 32: 1.0}, (0.01, 8)),
    "nothing but zeros": ({1: 0.0, 2: 0.0}, (0.0, 1)),
    "a value at last": ({1: 0.0, 2: 1.0}, (1.0, None)),
    "one clip": ({1: 1.0}, (0.0, None)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_limit_has_settled_where_the_second_half_bears_it_out(case: str) -> None:
    limits, (change, after) = CASES[case]
    last_change, settled_after = settled(limits)
    assert last_change == pytest.approx(change)
    assert settled_after == after


@given(st.lists(st.floats(0.01, 100), min_size=6, max_size=6))
def test_behind_the_settling_no_limit_leaves_the_tolerance(values: list[float]) -> None:
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


def test_all_tensors_together() -> None:
    good = Ranges(method="minmax", clips=64, tensors={"a": _tensor(0.0, 8), "b": _tensor(0.01, 24)})
    assert good.settled_after == 24
    assert good.summary == "the ranges settled after 24 of 64 clips"
    tensors = {"a": _tensor(0.06, None), "b": _tensor(0.01, 24), "c": _tensor(0.25, None)}
    poor = Ranges(method="minmax", clips=64, tensors=tensors)
    assert poor.settled_after is None
    assert poor.unsettled == ("c", "a")
    assert "2 of 3 still moved by more than 5% in the second half of 64 clips" in poor.summary
    assert "that of 'c', by 25.0%; calibrate on more clips" in poor.summary


def test_the_scale_is_the_step_of_int8() -> None:
    assert _tensor(0, 8).scale == 2 / 127
