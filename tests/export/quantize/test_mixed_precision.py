"""Mixed precision meets the goal by measurement with as few layers in float as possible, or reports what is missing."""

from __future__ import annotations

import math

import pytest

from edgeact.export.quantize.mixed_precision import MOST_IN_FLOAT, Goal, mix, next_goal
from edgeact.export.quantize.sensitivity import compare, measure_sensitivity
from edgeact.layer_reasons import SensitiveToInt8
from tests.export.graph.exported import run_onnx
from tests.export.quantize.making import ToggledNetwork, as_written, damage, toggled_network, with_int8


def _is_met(case: ToggledNetwork, in_float: set[str], goal: Goal) -> bool:
    graph = case.graph
    on = set(graph.names) - in_float
    parity = compare([graph.run(clip, ()) for clip in case.clips], [graph.run(clip, on) for clip in case.clips])
    changed = round((1 - parity.top1_agreement) * parity.clips)
    return (parity.snr_db is None or parity.snr_db >= goal.snr_db) and changed <= goal.changed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["msf-r3d-fsam", "r3d-18", "cnn3d-gate"])
def test_the_goal_is_met_and_every_layer_in_float_is_needed(name: str) -> None:
    case = toggled_network(name)
    sensitivity = measure_sensitivity(case.graph, case.clips, "an-int8")
    goal = Goal((sensitivity.snr_db or 0) + 3, len(case.clips))
    chosen = mix(case.graph, case.clips, sensitivity, goal)
    names = {layer.layer for layer in chosen.layers}
    assert chosen.is_met
    assert names
    assert chosen.share <= MOST_IN_FLOAT
    assert _is_met(case, names, goal)
    assert (chosen.reached.snr_db or math.inf) >= goal.snr_db
    assert not any(_is_met(case, names - {layer}, goal) for layer in names)
    # The quantizer computes the same with these layers excluded.
    made = case.quantized(tuple(names))
    parity = compare([run_onnx(case.model, c) for c in case.clips], [as_written(made, c) for c in case.clips])
    assert parity.snr_db == pytest.approx(chosen.reached.snr_db, abs=1.0)  # sums of floats in another order


def test_a_goal_that_plain_int8_meets_needs_no_layer() -> None:
    case = toggled_network("cnn3d-gate")
    sensitivity = measure_sensitivity(case.graph, case.clips, "an-int8")
    chosen = mix(case.graph, case.clips, sensitivity, Goal((sensitivity.snr_db or 0) - 1, len(case.clips)))
    assert (chosen.layers, chosen.share, chosen.is_met, chosen.reasons) == ((), 0.0, True, {})


@pytest.mark.slow
@pytest.mark.parametrize("place", [2, 4, 9])
def test_the_one_sensitive_layer_is_found(place: int) -> None:
    case = toggled_network("r3d-18")
    weight = case.graph.layers[place].weight
    damaged = with_int8(damage(case.model, weight, 1e3), case.clips)
    whole = measure_sensitivity(case.graph, case.clips, "an-int8").snr_db or 0
    sensitivity = measure_sensitivity(damaged.graph, case.clips, "an-int8")
    assert (sensitivity.snr_db or 0) < whole - 6
    chosen = mix(damaged.graph, case.clips, sensitivity, Goal(whole - 3, len(case.clips)))
    # The layer before computes the damaged layer's input and quantizes the same tensor: no third layer is in float.
    before = damaged.graph.layers[place - 1].weight
    assert {layer.weight for layer in chosen.layers} <= {weight, before}
    assert weight in {layer.weight for layer in chosen.layers}
    assert chosen.reasons == {
        layer.layer: SensitiveToInt8(snr_db=layer.snr_db, top1_agreement=layer.top1_agreement)
        for layer in chosen.layers
    }


def test_an_unreachable_goal_reports_the_reached_parity_and_the_needed_layers() -> None:
    case = toggled_network("cnn3d-gate")
    sensitivity = measure_sensitivity(case.graph, case.clips, "an-int8")
    chosen = mix(case.graph, case.clips, sensitivity, Goal(90.0, 0))
    assert not chosen.is_met
    assert chosen.share <= MOST_IN_FLOAT
    assert chosen.needed is not None
    count, share = chosen.needed
    assert count >= len(chosen.layers)
    assert share > MOST_IN_FLOAT
    decision = chosen.decision
    assert decision.goal_snr_db == 90.0
    assert decision.needed_share is not None
    assert decision.needed_share > decision.share_limit


def test_the_goal_is_above_the_refused_parity() -> None:
    case = toggled_network("cnn3d-gate")
    parity = compare([case.graph.run(c, ()) for c in case.clips], [case.graph.run(c, ()) for c in case.clips])
    poor = parity.model_copy(update={"snr_db": 4.0, "clips": 32})
    good = parity.model_copy(update={"snr_db": 25.0, "clips": 32})
    assert next_goal(poor, 10.0, 1.0) == Goal(13.0, 1)
    assert next_goal(good, 10.0, 0.0) == Goal(28.0, 0)
    assert next_goal(good, 10.0, 10.0, raises=2) == Goal(34.0, 4)
    assert next_goal(parity, 10.0, 1.0) == Goal(13.0, 1)


def test_progress_is_reported() -> None:
    case, calls = toggled_network("cnn3d-gate"), []
    sensitivity = measure_sensitivity(case.graph, case.clips, "an-int8")
    goal = Goal((sensitivity.snr_db or 0) + 3, 6)
    mix(case.graph, case.clips, sensitivity, goal, lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == list(range(1, len(calls) + 1))
