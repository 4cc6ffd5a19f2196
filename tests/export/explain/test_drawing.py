"""Drawing by pixel: bars from their mean, heat over frames, colors that mean what the scale says."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from edgeact.export.explain.drawing import (
    LESS,
    MORE,
    Bounds,
    Frame,
    Page,
    Rect,
    draw_bars,
    draw_scale,
    drawing,
    mark_bar,
    number,
)
from edgeact.video import Image

_RECT = Rect(10, 0, 400, 100)


@pytest.fixture(autouse=True, scope="module")
def _style() -> Iterator[None]:
    with drawing():
        yield


def _columns(image: Image, color: str) -> list[int]:
    """Pixels of that color in each column."""
    rgb = np.round(np.array(to_rgb(color)) * 255).astype(np.uint8)
    counts: list[int] = (image == rgb).all(axis=2).sum(axis=0).tolist()
    return counts


def _drawn(values: list[float], marked: int | None = None) -> Image:
    page = Page(420, 120)
    bars = draw_bars(page, _RECT, np.array(values, np.float32))
    if marked is not None:
        mark_bar(bars, marked)
    return page.pixels()


def _overlay(frame: Image, values: np.ndarray, bounds: Bounds) -> Image:
    height, width = frame.shape[:2]
    page = Page(width, height)
    Frame(page.axes(Rect(0, 0, width, height)), frame, values, bounds)
    return page.pixels()


def test_bars_rise_and_fall_from_their_mean_by_their_difference() -> None:
    image = _drawn([0.2, 0.5, 0.8, 0.5])
    more, less = _columns(image, MORE), _columns(image, LESS)
    assert max(less[10:110]) == pytest.approx(34, abs=1)
    assert max(more[210:310]) == pytest.approx(34, abs=1)
    assert sum(more[10:210]) + sum(more[310:]) + sum(less[110:]) == 0


@settings(max_examples=30)
@given(st.lists(st.integers(0, 100), min_size=2, max_size=12))
def test_the_order_of_bars_is_the_order_of_weights(values: list[int]) -> None:
    page = Page(420, 120)
    bars = draw_bars(page, _RECT, np.array(values, np.float32) / np.float32(100))
    heights = [bar.get_height() for bar in bars]
    pairs = list(zip(values, heights, strict=True))
    assert all(one[1] < other[1] for one in pairs for other in pairs if one[0] < other[0])
    assert sum(heights) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5, 0.5], [0.0], list(np.linspace(0, 1, 256))])
def test_equal_and_many_weights_can_be_drawn(values: list[float]) -> None:
    image = _drawn(values)
    flat = len(set(values)) == 1
    assert (sum(_columns(image, MORE)) == 0) == flat
    assert (sum(_columns(image, LESS)) == 0) == flat


def test_the_marked_bar_alone_has_the_full_color() -> None:
    more = _columns(_drawn([0.8, 0.2, 0.8, 0.2], marked=2), MORE)
    assert sum(more[210:310]) > 0
    assert sum(more) == sum(more[210:310])


def test_heat_is_brightest_at_the_largest_weights() -> None:
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = 1
    image = _overlay(np.full((64, 64, 3), 120, np.uint8), values, (0, 1)).sum(axis=2)
    row, column = np.unravel_index(int(image.argmax()), image.shape)
    assert [int(row) // 16, int(column) // 16] == [1, 2]
    assert image[60, 4] == image.min()


def test_a_map_of_one_value_can_be_drawn() -> None:
    image = _overlay(np.full((8, 8, 3), 99, np.uint8), np.full((2, 2), 0.3, np.float32), (0.3, 0.3))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) == 1


def test_an_update_is_a_new_frame() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    heat = np.random.default_rng(1).random((2, 4, 4)).astype(np.float32)
    page = Page(16, 16)
    shown = Frame(page.axes(Rect(0, 0, 16, 16)), frames[0], heat[0])
    page.changes(*shown.artists)
    np.testing.assert_array_equal(page.pixels(), _overlay(frames[0], heat[0], (0.0, 1.0)))
    shown.update(frames[1], heat[1])
    np.testing.assert_array_equal(page.pixels(), _overlay(frames[1], heat[1], (0.0, 1.0)))


def test_the_scale_has_the_colors_of_the_heat() -> None:
    page, black = Page(80, 60), np.zeros((1, 1, 3), np.uint8)
    draw_scale(page, Rect(0, 0, 10, 60), (2.0, 5.0))
    strip = page.pixels()[:, 5].astype(int)
    for value, row in ((2.0, 59), (5.0, 0)):
        whole = _overlay(black, np.full((1, 1), value, np.float32), (2.0, 5.0))[0, 0].astype(int)
        other = _overlay(black, np.full((1, 1), 7.0 - value, np.float32), (2.0, 5.0))[0, 0].astype(int)
        differences = [np.abs((heat - 0.4 * 0.3 * 255) / 0.6 - strip[row]).max() for heat in (whole, other)]
        assert differences[0] <= 3 < differences[1]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0001, "0"), (0.4821, "0.482"), (2.267, "2.27"), (13.44, "13.4"), (4060.4, "4060")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("text", ["sit-down 82.4%", "übung", "挥手", "$x$"])
def test_text_stands_at_its_alignment(text: str) -> None:
    inked = []
    for align in ("left", "center", "right"):
        page = Page(400, 40)
        page.text(text, (200, 25), 13, align=align)
        inked.append(np.flatnonzero((page.pixels() < 200).any(axis=(0, 2))))
    left, center, right = inked
    assert 198 <= left[0] <= 204
    assert abs((center[0] + center[-1]) / 2 - 200) <= 4
    assert 194 <= right[-1] <= 202
