"""The chart of INT8's damage: every layer where its figure puts it, legible on a phone, and the same in every form."""

from __future__ import annotations

import itertools
import json

import pytest

from edgeact.records import LayerDamage, Sensitivity
from edgeact.report import BundleView, build_report, render_html, render_markdown
from edgeact.report import sensitivity_chart as damage
from tests.report.making import make_view

COUNT = 45


def make_sensitivity() -> Sensitivity:
    """45 layers, two of them left in float, one without any error."""
    layers = [
        LayerDamage(
            layer=f"node_Conv_{index}",
            weight=f"stages.{index // 12}.{index % 12}.msl.branches.{index % 3}.0.weight",
            macs=1_000_000 * (index + 1),
            snr_db=None if index == 7 else 24.0 + 43 * (index * 7 % COUNT) / COUNT,
            top1_agreement=0.9375 if index == 0 else 1.0,
            float_reason="mixed precision: it hurts" if index in (0, 13) else "",
        )
        for index in range(COUNT)
    ]
    return Sensitivity(
        artifact="openvino-int8",
        clips=16,
        snr_db=19.5,
        top1_agreement=0.875,
        mixed_snr_db=23.25,
        mixed_top1_agreement=1.0,
        layers=tuple(layers),
    )


def view_with(sensitivity: Sensitivity) -> BundleView:
    """A bundle whose export looked into INT8."""
    view = make_view()
    assert view.measurements is not None
    return view.model_copy(
        update={"measurements": view.measurements.model_copy(update={"sensitivity": (sensitivity,)})}
    )


@pytest.mark.parametrize("width", [340, 500, 760])
def test_longer_bars_are_worse_and_everything_stays_inside(width: int) -> None:
    sensitivity = make_sensitivity()
    chart = damage.lay_out(sensitivity, width)
    assert len(chart.bars) == COUNT
    lengths = [bar.width for bar in chart.bars]
    assert lengths == sorted(lengths, reverse=True)
    by_snr = {bar.damage.snr_db: bar.width for bar in chart.bars if bar.damage.snr_db is not None}
    worst, best = min(by_snr), max(by_snr)
    assert by_snr[worst] - by_snr[best] == pytest.approx((best - worst) / 60 * (chart.right - chart.left), abs=1.1)
    tops = [bar.y for bar in chart.bars]
    assert all(lower - upper >= chart.bar_height + 2 for upper, lower in itertools.pairwise(tops))
    assert tops[-1] + chart.bar_height <= chart.bottom < chart.height
    assert all(chart.left + bar.width <= chart.right for bar in chart.bars)
    assert all(chart.left <= mark.x <= chart.right for mark in (*chart.ticks, *chart.wholes))
    assert [mark.text for mark in chart.wholes] == ["all INT8 19.5 dB", "mixed 23.2 dB"]


def test_names_fit_beside_or_above_their_bars() -> None:
    for width in (340, 760):
        chart = damage.lay_out(make_sensitivity(), width)
        room = chart.left if width == 760 else float(chart.width)
        assert all(6.9 * len(damage.short_name(bar.damage)) < room for bar in chart.bars)


def test_a_layer_is_called_by_its_module_or_by_its_node() -> None:
    layer = make_sensitivity().layers[0]
    assert damage.short_name(layer) == "stages.0.0.msl.branches.0.0"
    folded = layer.model_copy(update={"weight": "node_Conv_0/space_to_depth/weight"})
    assert damage.short_name(folded) == "node_Conv_0"
    assert damage.short_name(layer.model_copy(update={"weight": ""})) == "node_Conv_0"


def test_no_error_anywhere_is_drawn_too() -> None:
    layers = tuple(layer.model_copy(update={"snr_db": None}) for layer in make_sensitivity().layers)
    exact = Sensitivity(artifact="a", clips=1, snr_db=None, top1_agreement=1.0, layers=layers)
    chart = damage.lay_out(exact, 760)
    assert {bar.value for bar in chart.bars} == {"no error"}
    assert chart.wholes == ()
    assert len(damage.sentences(exact)) == 1


def test_page_markdown_and_json_say_the_same() -> None:
    sensitivity = make_sensitivity()
    report = build_report([view_with(sensitivity)])
    page, text, document = render_html(report), render_markdown(report), json.loads(report.model_dump_json())
    for layer in sensitivity.layers:
        for cell in damage.cells(layer):
            assert cell in page
        assert f"| {' | '.join(damage.cells(layer))} |" in text
    for sentence in damage.sentences(sensitivity):
        assert sentence in page
        assert sentence in text
    assert page.count('<g class="float">') == 2 * 2 + 1
    kept = document["bundles"][0]["measurements"]["sensitivity"][0]["layers"]
    assert [layer["layer"] for layer in kept] == [layer.layer for layer in sensitivity.layers]


def test_a_bundle_that_was_not_looked_into_shows_no_chart() -> None:
    report = build_report([make_view()])
    assert "Damage of INT8" not in render_html(report)
    assert "Damage of INT8" not in render_markdown(report)
