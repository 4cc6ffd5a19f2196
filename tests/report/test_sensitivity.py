from __future__ import annotations

import json

from edgeact.records import Sensitivity
from edgeact.report import BundleView, build_report, render_html, render_markdown
from edgeact.report.sensitivity import layer_cells, layer_name, summarize_sensitivity, worst_first
from tests.report.making import make_sensitivity, make_view


def view_with(sensitivity: Sensitivity) -> BundleView:
    """Return a bundle whose measurements hold `sensitivity`."""
    view = make_view()
    assert view.measurements is not None
    return view.model_copy(
        update={"measurements": view.measurements.model_copy(update={"sensitivity": (sensitivity,)})}
    )


def test_worst_first_sorts_by_snr_and_puts_exact_layers_last() -> None:
    layers = worst_first(make_sensitivity())
    known = [layer.snr_db for layer in layers if layer.snr_db is not None]
    assert known == sorted(known)
    assert [layer.snr_db for layer in layers[len(known) :]] == [None]


def test_layer_name_is_the_module_or_the_node() -> None:
    layer = make_sensitivity().layers[0]
    assert layer_name(layer) == "stages.0.0.msl.branches.0.0"
    folded = layer.model_copy(update={"weight": "node_Conv_0/space_to_depth/weight"})
    assert layer_name(folded) == "node_Conv_0"
    assert layer_name(layer.model_copy(update={"weight": ""})) == "node_Conv_0"


def test_summarize_sensitivity_mentions_mixed_precision_only_if_measured() -> None:
    sensitivity = make_sensitivity()
    assert len(summarize_sensitivity(sensitivity)) == 2
    plain = sensitivity.model_copy(update={"mixed_snr_db": None, "mixed_top1_agreement": None})
    assert summarize_sensitivity(plain) == summarize_sensitivity(sensitivity)[:1]


def test_page_markdown_and_json_show_the_same_layers() -> None:
    sensitivity = make_sensitivity()
    report = build_report([view_with(sensitivity)])
    page, text, document = render_html(report), render_markdown(report), json.loads(report.model_dump_json())
    for layer in sensitivity.layers:
        for cell in layer_cells(layer):
            assert cell in page
        assert f"| {' | '.join(layer_cells(layer))} |" in text
    for sentence in summarize_sensitivity(sensitivity):
        assert sentence in page
        assert sentence in text
    kept = document["bundles"][0]["measurements"]["sensitivity"][0]["layers"]
    assert [layer["layer"] for layer in kept] == [layer.layer for layer in sensitivity.layers]


def test_a_bundle_without_sensitivity_has_no_such_section() -> None:
    report = build_report([make_view()])
    assert "INT8 sensitivity" not in render_html(report)
    assert "INT8 sensitivity" not in render_markdown(report)
