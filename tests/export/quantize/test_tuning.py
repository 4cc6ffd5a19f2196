"""What an export finds out about INT8: once for all graphs of the same layers, and only what pays is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeact.export.quantize.sensitivity import compare
from edgeact.export.quantize.tuning import Study
from tests.export.graph.exported import exported, random_clips
from tests.export.quantize.making import Switched, switched


@pytest.fixture
def case() -> Switched:
    """A narrow network with clips enough to hold some back."""
    found = switched("cnn3d-gate")
    return replace(found, clips=random_clips(exported("cnn3d-gate").clip, 24))


def test_damage_is_measured_once_and_told_by_the_models_names(case: Switched) -> None:
    titles: list[str] = []
    first = case.graph.names[0]
    study = Study(parameters={first: "net.first.weight"}, on_step=lambda title, _done, _total: titles.append(title))
    found = study.look_into(case.graph, case.clips, "openvino-int8")
    assert found.clips == 16
    assert found.layers[0].weight == "net.first.weight"
    assert found.layers[1].weight == case.graph.layers[1].weight
    assert study.look_into(case.graph, case.clips, "another") is found
    assert titles == ["INT8 damage by layer"] * 16


def test_a_mix_beats_plain_int8_and_is_told_in_the_damage(case: Switched) -> None:
    study = Study(mixed=True)
    found = study.mix_for(case.graph, case.clips, "openvino-mixed")
    assert study.mix_for(case.graph, case.clips, "onnx-mixed") is found
    (sensitivity,) = study.sensitivities.values()
    assert sensitivity.mixed_snr_db == found.reached.snr_db
    assert {one.layer for one in sensitivity.layers if one.float_reason} == found.reasons.keys()
    again = replace(study, raises=1).mix_for(case.graph, case.clips, "openvino-mixed")
    assert again.goal.snr_db == pytest.approx(found.goal.snr_db + 3)
    assert len(study.mixes) == 2


def test_biases_are_corrected_only_where_other_clips_gain(case: Switched) -> None:
    study = Study()
    biases, told = study.better_biases(case.graph, case.clips, case.graph.names)
    others = case.clips[-6:]
    floats = [case.graph.run(clip, ()) for clip in others]
    plain = compare(floats, [case.graph.run(clip, case.graph.names) for clip in others])
    kept = case.graph.fed(biases)
    after = compare(floats, [case.graph.run(clip, case.graph.names, kept) for clip in others])
    assert (after.snr_db or 0) >= (plain.snr_db or 0) + (0.1 if biases else 0.0)
    assert told.startswith("biases of" if biases else "biases not corrected")
    assert "on 6 other clips" in told
    assert study.better_biases(case.graph, case.clips, set(case.graph.names))[0] is biases


def test_few_clips_prove_no_gain(case: Switched) -> None:
    biases, told = Study().better_biases(case.graph, case.clips[:7], case.graph.names)
    assert biases == {}
    assert "7 calibration clips are too few" in told
