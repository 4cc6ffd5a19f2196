"""Tuning of INT8 graphs: once for all graphs of the same layers, and kept only if held-back clips gain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeact.export.quantize.sensitivity import compare
from edgeact.export.quantize.tuning import Tuner, TuningSettings
from edgeact.progress import Callbacks
from edgeact.reasons import BiasCorrection, MixedPrecision
from tests.export.graph.exported import exported, random_clips
from tests.export.quantize.making import ToggledNetwork, toggled_network


@pytest.fixture
def case() -> ToggledNetwork:
    """Return a narrow network with enough clips to hold some back."""
    return replace(toggled_network("cnn3d-gate"), clips=random_clips(exported("cnn3d-gate").clip, 24))


def _tuner(titles: list[str] | None = None, **settings: object) -> Tuner:
    def on_progress(title: str, _done: int, _total: int) -> None:
        if titles is not None:
            titles.append(title)

    return Tuner(TuningSettings(**settings), Callbacks(on_progress))  # type: ignore[arg-type]


def test_sensitivity_is_measured_once_and_names_the_weights_of_the_model(case: ToggledNetwork) -> None:
    titles: list[str] = []
    first = case.graph.names[0]
    tuner = _tuner(titles, parameters={first: "net.first.weight"})
    measured = tuner.sensitivity(case.graph, case.clips, "openvino-int8")
    assert measured.clips == 16
    assert measured.layers[0].weight == "net.first.weight"
    assert measured.layers[1].weight == case.graph.layers[1].weight
    assert tuner.sensitivity(case.graph, case.clips, "another") is measured
    assert titles == ["INT8 error by layer"] * 16


def test_mixed_precision_is_in_the_sensitivity_and_each_attempt_has_a_higher_goal(case: ToggledNetwork) -> None:
    tuner = _tuner()
    tuned = tuner.tune(case.graph, case.clips, "openvino-mixed", 0)
    assert tuned.mix is not None
    assert tuner.tune(case.graph, case.clips, "onnx-mixed", 0).mix is tuned.mix
    assert tuned.sensitivity is not None
    assert tuned.sensitivity.mixed_snr_db == tuned.mix.reached.snr_db
    assert {layer.layer for layer in tuned.sensitivity.layers if layer.float_reason} == tuned.mix.reasons.keys()
    mixed, biases = tuned.decisions
    assert isinstance(mixed, MixedPrecision)
    assert mixed.layers == len(tuned.mix.layers)
    assert isinstance(biases, BiasCorrection)
    assert biases.mixed
    again = tuner.tune(case.graph, case.clips, "openvino-mixed", 1)
    assert again.mix is not None
    assert again.mix.goal.snr_db == pytest.approx(tuned.mix.goal.snr_db + 3)


def test_plain_int8_measures_no_sensitivity_unless_asked(case: ToggledNetwork) -> None:
    assert _tuner().tune(case.graph, case.clips[:7], "openvino-int8").sensitivity is None
    asked = _tuner(with_sensitivity=True).tune(case.graph, case.clips[:7], "openvino-int8")
    assert asked.sensitivity is not None
    assert asked.mix is None


def test_biases_are_corrected_only_if_held_back_clips_gain(case: ToggledNetwork) -> None:
    tuner = _tuner()
    biases, decision = tuner.corrected_biases(case.graph, case.clips, case.graph.names)
    others = case.clips[-6:]
    floats = [case.graph.run(clip, ()) for clip in others]
    plain = compare(floats, [case.graph.run(clip, case.graph.names) for clip in others])
    kept = case.graph.fed(biases)
    after = compare(floats, [case.graph.run(clip, case.graph.names, kept) for clip in others])
    assert (after.snr_db or 0) >= (plain.snr_db or 0) + (0.1 if biases else 0.0)
    assert decision.outcome == ("corrected" if biases else "no-gain")
    assert (decision.layers, decision.clips) == (len(biases), 6)
    assert decision.before_db == pytest.approx(plain.snr_db)
    assert tuner.corrected_biases(case.graph, case.clips, set(case.graph.names))[0] is biases


def test_few_clips_prove_no_gain(case: ToggledNetwork) -> None:
    biases, decision = _tuner().corrected_biases(case.graph, case.clips[:7], case.graph.names)
    assert biases == {}
    assert decision == BiasCorrection(mixed=False, outcome="too-few-clips", clips=7)
