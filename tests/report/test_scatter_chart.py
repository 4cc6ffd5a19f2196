from __future__ import annotations

import itertools
import random
from xml.etree.ElementTree import Element

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgeact.records import Interval
from edgeact.report.scatter_chart import draw_scatter
from edgeact.report.view import Point, Scatter
from tests.report.drawings import Box, parse_chart, read_labels, read_lines, read_marks
from tests.report.making import make_machine

SIZES = [(760, 420), (340, 440)]
MARK_PX = 5.5
ROUNDING_PX = 0.11
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # a chart takes some 0.1 s


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


def make_scatter(points: list[Point]) -> Scatter:
    return Scatter(
        machine=make_machine(),
        estimated_for="orin-nano-8gb" if any(point.is_estimate for point in points) else None,
        data="stick-actions test, clips",
        points=tuple(points),
    )


def make_dozen(seed: int) -> list[Point]:
    """Make twelve points in clusters."""
    draw = random.Random(seed)
    near = [draw.choice([5, 6.2, 10, 30, 100]) * draw.uniform(0.98, 1.02) for _ in range(12)]
    return [make_point(value, draw.uniform(0.92, 0.94)) for value in near]


def draw(points: list[Point], size: tuple[int, int] = SIZES[0]) -> Element:
    return parse_chart(draw_scatter(make_scatter(points), "scatter", "wide", size).svg)


points = st.booleans().flatmap(
    lambda is_estimate: st.lists(
        st.builds(make_point, st.floats(0.01, 5000), st.floats(0, 1), is_estimate=st.just(is_estimate)),
        min_size=1,
        max_size=12,
    )
)


@pytest.mark.slow
@settings(max_examples=20, phases=WITHOUT_SHRINKING)
@given(points, st.sampled_from(SIZES))
def test_draw_scatter_keeps_everything_inside_and_in_order(some: list[Point], size: tuple[int, int]) -> None:
    root = draw(some, size)
    marks = read_marks(root)
    assert len(marks) == len(some)
    corners = [corner for name in ("bar", "leader") for line in read_lines(root, name) for corner in line]
    for x, y in (*marks, *corners):
        assert 0 <= x <= size[0]
        assert 0 <= y <= size[1]
    placed = list(zip(some, marks, strict=True))
    for (_, (x, _)), (_, (next_x, _)) in itertools.pairwise(sorted(placed, key=lambda pair: pair[0].latency_ms)):
        assert x <= next_x + ROUNDING_PX
    for (_, (_, y)), (_, (_, next_y)) in itertools.pairwise(sorted(placed, key=lambda pair: pair[0].top1)):
        assert y >= next_y - ROUNDING_PX


@pytest.mark.slow
@settings(max_examples=20, phases=WITHOUT_SHRINKING)
@given(points, st.sampled_from(SIZES))
def test_draw_scatter_ticks_ascend_and_do_not_overlap(some: list[Point], size: tuple[int, int]) -> None:
    ticks = [label for label in read_labels(draw(some, size)) if label.text.replace(".", "").isdecimal()]
    for anchor in ("middle", "end"):  # of the latency, below it; of the accuracy, left of it
        axis = [tick for tick in ticks if tick.anchor == anchor]
        assert 1 <= len(axis) <= 12
        axis.sort(key=lambda tick: tick.box.left if tick.anchor == "middle" else -tick.box.top)
        values = [float(tick.text) for tick in axis]
        assert values == sorted(set(values))
        assert not any(first.box.overlaps(second.box) for first, second in itertools.combinations(axis, 2))


@pytest.mark.parametrize("is_estimate", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "latencies",
    [[4.3, 9.4, 27, 34, 61], [10, 10.2, 10.4, 10.6], [12.7, 16.1, 21.6, 92, 166, 368], [5.0] * 5],
)
def test_draw_scatter_names_overlap_neither_each_other_nor_a_mark(
    latencies: list[float], size: tuple[int, int], is_estimate: bool
) -> None:
    some = [make_point(value, 0.95 - 0.004 * index, is_estimate=is_estimate) for index, value in enumerate(latencies)]
    assert_all_named_without_overlap(some, size)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("size", SIZES)
def test_draw_scatter_names_a_dozen_clustered_points(size: tuple[int, int], seed: int) -> None:
    assert_all_named_without_overlap(make_dozen(seed), size)


def assert_all_named_without_overlap(some: list[Point], size: tuple[int, int]) -> None:
    root = draw(some, size)
    boxes = [label.box for label in read_labels(root, "name")]
    assert len(boxes) == len(some)
    assert not any(first.overlaps(second) for first, second in itertools.combinations(boxes, 2))
    marks = [Box(x - MARK_PX, y - MARK_PX, x + MARK_PX, y + MARK_PX) for x, y in read_marks(root)]
    assert not any(box.overlaps(mark) for box, mark in itertools.product(boxes, marks))


def test_draw_scatter_of_too_many_points_names_what_fits_the_chosen_one_first() -> None:
    crowd = [make_point(5.0, 0.9).model_copy(update={"label": f"openvino-int8-{index}"}) for index in range(60)]
    crowd[-1] = crowd[-1].model_copy(update={"verdict": "chosen"})
    chart = draw_scatter(make_scatter(crowd), "scatter", "wide", SIZES[1])
    names = read_labels(parse_chart(chart.svg), "name")
    assert names[0].text == "openvino-int8-59"
    assert chart.unnamed == len(crowd) - len(names) > 0
    assert not any(first.box.overlaps(second.box) for first, second in itertools.combinations(names, 2))


def test_draw_scatter_writes_nothing_to_stdout_if_no_name_fits(capsys: pytest.CaptureFixture[str]) -> None:
    point = make_point(5.0, 0.9).model_copy(update={"label": "x" * 200})
    assert draw_scatter(make_scatter([point]), "scatter", "narrow", SIZES[1]).unnamed == 1
    assert capsys.readouterr().out == ""


def test_draw_scatter_draws_an_estimate_with_an_error_bar_of_its_accuracy_only() -> None:
    for is_estimate in (False, True):
        root = draw([make_point(10, 0.9, is_estimate=is_estimate)])
        ((x, y),) = read_marks(root)
        spans = [({x for x, _ in bar}, {y for _, y in bar}) for bar in read_lines(root, "bar")]
        horizontal = [xs for xs, ys in spans if ys == {y}]
        vertical = [ys for xs, ys in spans if xs == {x}]
        assert len(horizontal) == (not is_estimate)
        assert len(vertical) == 1
        assert min(vertical[0]) < y < max(vertical[0])


def test_draw_scatter_has_a_logarithmic_axis_for_a_wide_range_of_latencies() -> None:
    texts = [
        [label.text for label in read_labels(draw([make_point(4, 0.9), make_point(high, 0.9)]))] for high in (60, 20)
    ]
    assert ["latency p50, ms per clip (log scale)" in text for text in texts] == [True, False]
    assert ["latency p50, ms per clip" in text for text in texts] == [False, True]


def test_draw_scatter_puts_ticks_at_their_values() -> None:
    root = draw([make_point(10, 0.9), make_point(20, 0.8)])
    centers = {label.text: (label.box.left + label.box.right) / 2 for label in read_labels(root)}
    (first_x, first_y), (second_x, second_y) = read_marks(root)
    assert centers["10"] == pytest.approx(first_x, abs=0.2)
    assert centers["20"] == pytest.approx(second_x, abs=0.2)
    middles = {label.text: (label.box.top + label.box.bottom) / 2 for label in read_labels(root)}
    assert middles["90"] - middles["80"] == pytest.approx(first_y - second_y, abs=0.3)


def test_draw_scatter_has_tooltips_title_and_description() -> None:
    root = draw([make_point(10, 0.9), make_point(20, 0.8, is_estimate=False)])
    tooltips = [title.text for title in root.iterfind(".//g[@class='point']/title")]
    assert tooltips == [
        "openvino-int8 (int8, candidate): 10.0 ms, 90.0 %",
        "openvino-int8 (int8, candidate): 20.0 ms, 80.0 %",
    ]
    assert root.findtext("title") == "Accuracy against latency"
    assert root.findtext("desc") == "openvino-int8: 10.0 ms, 90.0 %. openvino-int8: 20.0 ms, 80.0 %."
    assert root.get("aria-labelledby") == "scatter-title scatter-desc"
