"""Drawing by pixel: bars from their mean, heat over frames, colours that mean what the scale says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeact.export.explain.canvas import (
    LESS,
    MORE,
    Bars,
    Rect,
    blank,
    colour_scale,
    number,
    overlay,
    write,
)
from edgeact.video import Image

_RECT = Rect(10, 0, 400, 100)


def _columns(image: Image, colour: tuple[int, int, int]) -> list[int]:
    """Pixels of that colour in each column."""
    found: list[int] = (image == np.array(colour, np.uint8)).all(axis=2).sum(axis=0).tolist()
    return found


def _drawn(values: list[float], marked: int | None = None) -> Image:
    image = blank(120, 420)
    Bars(np.array(values, np.float32), (), marked).draw(image, _RECT)
    return image


def test_bars_rise_and_fall_from_their_mean_by_their_difference() -> None:
    image = _drawn([0.2, 0.5, 0.8, 0.5])
    more, less = _columns(image, MORE), _columns(image, LESS)
    assert max(less[10:110]) == 34
    assert max(more[210:310]) == 34
    assert sum(more[10:210]) + sum(more[310:]) + sum(less[110:]) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=2, max_size=12))
def test_the_order_of_bars_is_the_order_of_weights(values: list[int]) -> None:
    image, share = _drawn([value / 100 for value in values]), 400 / len(values)
    more, less = _columns(image, MORE), _columns(image, LESS)
    middles = [round(10 + (index + 0.5) * share) for index in range(len(values))]
    heights = [more[middle] - less[middle] for middle in middles]
    pairs = list(zip(values, heights, strict=True))
    assert all(one[1] <= other[1] for one in pairs for other in pairs if one[0] < other[0])


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5, 0.5], [0.0], list(np.linspace(0, 1, 256))])
def test_equal_and_many_weights_can_be_drawn(values: list[float]) -> None:
    image = _drawn(values)
    flat = len(set(values)) == 1
    assert (sum(_columns(image, MORE)) == 0) == flat
    assert (sum(_columns(image, LESS)) == 0) == flat


def test_the_marked_bar_alone_has_the_full_colour() -> None:
    more = _columns(_drawn([0.8, 0.2, 0.8, 0.2], marked=2), MORE)
    assert sum(more[210:310]) > 0
    assert sum(more) == sum(more[210:310])


def test_heat_is_brightest_where_the_weights_are_largest() -> None:
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = 1
    image = overlay(np.full((64, 64, 3), 120, np.uint8), values, (0, 1)).sum(axis=2)
    row, column = np.unravel_index(int(image.argmax()), image.shape)
    assert [int(row) // 16, int(column) // 16] == [1, 2]
    assert image[60, 4] == image.min()


def test_a_map_of_one_value_can_be_drawn() -> None:
    image = overlay(np.full((8, 8, 3), 99, np.uint8), np.full((2, 2), 0.3, np.float32), (0.3, 0.3))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) == 1


def test_the_scale_has_the_colours_of_the_heat() -> None:
    image, black = blank(60, 80), np.zeros((1, 1, 3), np.uint8)
    colour_scale(image, Rect(0, 0, 10, 60), (2.0, 5.0))
    strip = image[:, 5].astype(int)
    for value, row in ((2.0, 59), (5.0, 0)):
        whole = overlay(black, np.full((1, 1), value, np.float32), (2.0, 5.0))[0, 0].astype(int)
        other = overlay(black, np.full((1, 1), 7.0 - value, np.float32), (2.0, 5.0))[0, 0].astype(int)
        differences = [np.abs((heat - 0.4 * 0.3 * 255) / 0.6 - strip[row]).max() for heat in (whole, other)]
        assert differences[0] <= 3 < differences[1]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0001, "0"), (0.4821, "0.482"), (2.267, "2.27"), (13.44, "13.4"), (4060.4, "4060")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("text", ["sit-down 82.4%", "übung", "挥手"])
def test_text_stands_where_it_is_aligned_to(text: str) -> None:
    inked = []
    for align in ("left", "centre", "right"):
        image = blank(40, 400)
        write(image, text, (200, 25), 13, align=align)
        inked.append(np.flatnonzero((image < 200).any(axis=(0, 2))))
    left, centre, right = inked
    assert 198 <= left[0] <= 204
    assert abs((centre[0] + centre[-1]) / 2 - 200) <= 4
    assert 194 <= right[-1] <= 202
