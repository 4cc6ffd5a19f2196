from __future__ import annotations

import itertools
from xml.etree.ElementTree import Element

import pytest

from edgeact.records import Sensitivity
from edgeact.report.sensitivity import layer_name, worst_first
from edgeact.report.sensitivity_chart import draw_sensitivity
from tests.report.drawings import parse_chart, read_labels, read_path
from tests.report.making import make_sensitivity

WIDTHS = [340, 500, 760]


def draw(sensitivity: Sensitivity, width: int = 760) -> Element:
    return parse_chart(draw_sensitivity(sensitivity, "layers", "wide", width))


def bar_spans(root: Element) -> list[tuple[float, float, float, float]]:
    """Return (left, top, right, bottom) of each bar, from the top."""
    spans = []
    for path in root.iterfind(".//g[@class='layer']/path"):
        xs, ys = zip(*read_path(path), strict=True)
        spans.append((min(xs), min(ys), max(xs), max(ys)))
    return spans


@pytest.mark.parametrize("width", WIDTHS)
def test_draw_sensitivity_bars_are_longer_for_worse_layers(width: int) -> None:
    sensitivity = make_sensitivity()
    spans = bar_spans(draw(sensitivity, width))
    layers = worst_first(sensitivity)
    assert len(spans) == len(layers)
    lengths = [right - left for left, _, right, _ in spans]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] == 0  # no error
    worst, second = layers[0].snr_db, layers[1].snr_db
    assert worst is not None
    assert second is not None
    per_db = lengths[0] / (70 - worst)
    assert lengths[0] - lengths[1] == pytest.approx(per_db * (second - worst), abs=0.2)
    assert all(below[1] - above[3] >= 2 for above, below in itertools.pairwise(spans))


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_draw_sensitivity_texts_are_inside_and_do_not_overlap(width: int) -> None:
    root = draw(make_sensitivity(), width)
    height = float(root.get("viewBox", "").split()[3])
    labels = read_labels(root)
    for label in labels:
        assert label.box.left >= -0.5
        assert label.box.right <= width + 0.5
        assert label.box.top >= -0.5
        assert label.box.bottom <= height + 0.5
    names = {layer_name(layer) for layer in make_sensitivity().layers}
    named = [label for label in labels if label.text in names]
    assert len(named) == len(names)
    assert not any(first.box.overlaps(second.box) for first, second in itertools.combinations(named, 2))


@pytest.mark.slow
def test_draw_sensitivity_marks_the_whole_graphs_if_their_snr_is() -> None:
    root = draw(make_sensitivity())
    (first, second) = ({x for x, _ in read_path(path)} for path in root.iterfind(".//g[@class='whole']/path"))
    centers = {label.text: (label.box.left + label.box.right) / 2 for label in read_labels(root)}
    assert len(first) == len(second) == 1
    pixels_per_db = (centers["10"] - centers["20"]) / 10
    assert min(first) == pytest.approx(centers["20"] + 0.5 * pixels_per_db, abs=0.5)
    assert min(second) == pytest.approx(centers["20"] - 3.25 * pixels_per_db, abs=0.5)
    assert {"all INT8 19.5 dB", "mixed 23.2 dB"} <= set(centers)


@pytest.mark.slow
def test_draw_sensitivity_sets_layers_kept_in_float_apart() -> None:
    root = draw(make_sensitivity())
    fills = ["fill:var(--paper)" in path.get("style", "") for path in root.iterfind(".//g[@class='layer']/path")]
    assert fills == [True, True] + [False] * 43
    tooltips = [title.text or "" for title in root.iterfind(".//g[@class='layer']/title")]
    assert ["kept in float" in tooltip for tooltip in tooltips] == fills
    keys = [label.text for label in read_labels(root)]
    assert "INT8" in keys
    assert "kept in float by mixed precision" in keys


def test_draw_sensitivity_draws_graphs_without_any_error() -> None:
    layers = tuple(layer.model_copy(update={"snr_db": None, "float_reason": ""}) for layer in make_sensitivity().layers)
    exact = Sensitivity(artifact="a", clips=1, snr_db=None, top1_agreement=1.0, layers=layers)
    root = draw(exact)
    texts = [label.text for label in read_labels(root)]
    assert texts.count("no error") == len(layers)
    assert root.findall(".//g[@class='whole']") == []
    assert "kept in float by mixed precision" not in texts
