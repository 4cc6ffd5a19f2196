"""What the end of an export says of layers: every reason once, every name a reader knows, the worst layers first."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from edgeact.bundle.manifest import Manifest
from edgeact.cli.layers import layers_shown
from edgeact.report.sensitivity import layer_name, worst_first
from tests.report.making import make_sensitivity, make_view

GATES = {f"gate {index}": "attention gate [of features]" for index in range(6)}


def _text(shown: RenderableType) -> str:
    stream = io.StringIO()
    Console(file=stream, width=400).print(shown)
    return stream.getvalue()


def _manifest(float_layers: dict[str, str]) -> Manifest:
    manifest = make_view().manifest
    first, *rest = (artifact.model_copy(update={"float_layers": {}}) for artifact in manifest.artifacts)
    return manifest.model_copy(update={"artifacts": (first.model_copy(update={"float_layers": float_layers}), *rest)})


def test_layers_of_one_reason_are_listed_together_and_by_their_modules() -> None:
    sensitivity = make_sensitivity()
    measured = make_view().measurements
    assert measured is not None
    manifest = _manifest({**GATES, "node_Conv_0": "mixed precision: it hurts"})
    text = _text(layers_shown(manifest, measured.model_copy(update={"sensitivity": (sensitivity,)})))
    assert f"7 layers kept in float in {manifest.artifacts[0].name}:" in text
    assert "  gate 0, gate 1, gate 2, gate 3 and 2 more: attention gate [of features]" in text
    assert "  stages.0.0.msl.branches.0.0: mixed precision: it hurts" in text


def test_the_worst_layers_are_listed_and_the_rest_counted() -> None:
    sensitivity = make_sensitivity()
    measured = make_view().measurements
    assert measured is not None
    text = _text(layers_shown(_manifest({}), measured.model_copy(update={"sensitivity": (sensitivity,)})))
    worst = worst_first(sensitivity)
    places = [text.index(layer_name(layer)) for layer in worst[:10]]
    assert places == sorted(places)
    assert layer_name(worst[10]) not in text
    assert "35 less sensitive layers are not shown" in text
    assert "layers kept in float in" not in text


def test_nothing_is_said_if_there_is_nothing_to_say() -> None:
    assert _text(layers_shown(_manifest({}), make_view().measurements)).strip() == ""
    assert _text(layers_shown(_manifest({}), None)).strip() == ""
