from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.records import Interval
from edgeact.report.scatter import Mark, lay_out
from edgeact.report.view import Point

SIZES = [(760, 420), (340, 440)]


def make_point(latency_ms: float, top1: float, *, is_estimate: bool = False) -> Point:
    return Point(
        label="openvino-int8",
        bundle="model.edgeact",
        precision="int8",
        verdict="candidate",
        p50_ms=None if is_estimate else latency_ms,
        p50_interval=None if is_estimate else Interval(low=0.98 * latency_ms, high=1.02 * latency_ms),
        latency_estimate_ms=latency_ms if is_estimate else None,
        top1=top1,
        top1_interval=Interval(low=max(0.0, top1 - 0.02), high=min(1.0, top1 + 0.02)),
    )


points = st.booleans().flatmap(
    lambda is_estimate: st.lists(
        st.builds(make_point, st.floats(0.01, 5000), st.floats(0, 1), is_estimate=st.just(is_estimate)),
        min_size=1,
        max_size=12,
    )
)


@settings(max_examples=50, deadline=None)
@given(points, st.sampled_from(SIZES))
def test_everything_lies_inside_and_the_order_is_kept(some: list[Point], size: tuple[int, int]) -> None:
    layout = lay_out(some, *size)
    assert [mark.point for mark in layout.marks] == some
    for mark in layout.marks:
        bars = mark.bars
        assert layout.plot.left <= bars.x_low <= bars.x <= bars.x_high <= layout.plot.right
        assert layout.plot.top <= bars.y_high <= bars.y <= bars.y_low <= layout.plot.bottom
    for one, other in itertools.pairwise(sorted(layout.marks, key=lambda mark: mark.point.latency_ms)):
        assert one.bars.x <= other.bars.x
    for one, other in itertools.pairwise(sorted(layout.marks, key=lambda mark: mark.point.top1)):
        assert one.bars.y >= other.bars.y


@settings(max_examples=50, deadline=None)
@given(points, st.sampled_from(SIZES))
def test_ticks_ascend_inside_of_the_axes_and_say_different_things(some: list[Point], size: tuple[int, int]) -> None:
    layout = lay_out(some, *size)
    for ticks, low, high in (
        (layout.x_ticks, layout.plot.left, layout.plot.right),
        (layout.y_ticks, layout.plot.top, layout.plot.bottom),
    ):
        assert 1 <= len(ticks) <= 12
        assert all(low <= tick.at <= high for tick in ticks)
        values = [float(tick.text) for tick in ticks]
        assert values == sorted(set(values))


@pytest.mark.parametrize("is_estimate", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "latencies",
    [[4.3, 9.4, 27, 34, 61], [10, 10.2, 10.4, 10.6], [12.7, 16.1, 21.6, 92, 166, 368], [5.0] * 5],
)
def test_labels_do_not_overlap_each_other_nor_a_mark(
    latencies: list[float], size: tuple[int, int], is_estimate: bool
) -> None:
    some = [make_point(value, 0.95 - 0.004 * index, is_estimate=is_estimate) for index, value in enumerate(latencies)]
    _assert_no_overlap(lay_out(some, *size).marks)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("size", SIZES)
def test_a_dozen_labels_in_clusters_do_not_overlap(size: tuple[int, int], seed: int) -> None:
    draw = random.Random(seed)
    near = [draw.choice([5, 6.2, 10, 30, 100]) * draw.uniform(0.98, 1.02) for _ in range(12)]
    _assert_no_overlap(lay_out([make_point(value, draw.uniform(0.92, 0.94)) for value in near], *size).marks)


def _assert_no_overlap(marks: Sequence[Mark]) -> None:
    for one, other in itertools.combinations(marks, 2):
        assert one.label.box.overlap(other.label.box) == 0
    for one, other in itertools.product(marks, marks):
        assert one.label.box.overlap(other.bars.boxes[0]) == 0


def test_an_estimate_has_an_error_bar_of_its_accuracy_only() -> None:
    (mark,) = lay_out([make_point(10, 0.9, is_estimate=True)], 760, 420).marks
    assert mark.bars.x_low == mark.bars.x == mark.bars.x_high
    assert mark.bars.y_high < mark.bars.y < mark.bars.y_low


def test_a_wide_range_of_latencies_gets_a_logarithmic_axis() -> None:
    assert lay_out([make_point(4, 0.9), make_point(60, 0.9)], 760, 420).is_log
    assert not lay_out([make_point(4, 0.9), make_point(20, 0.9)], 760, 420).is_log


def test_a_tick_stands_where_its_value_is() -> None:
    layout = lay_out([make_point(10, 0.9), make_point(20, 0.8)], 760, 420)
    at = {tick.text: tick.at for tick in layout.x_ticks}
    assert at["10"] == pytest.approx(layout.marks[0].bars.x, abs=0.2)
    assert at["20"] == pytest.approx(layout.marks[1].bars.x, abs=0.2)
    assert {tick.text: tick.at for tick in layout.y_ticks}["90"] == pytest.approx(layout.marks[0].bars.y, abs=0.2)
