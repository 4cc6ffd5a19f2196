"""Mixed precision: the budget is kept by what was run, with no more in float than it takes, or it is told why not."""

from __future__ import annotations

import math

import pytest

from edgeact.export.quantize.mixed_precision import MOST_IN_FLOAT, Goal, mix, next_goal
from edgeact.export.quantize.sensitivity import compare, measure_sensitivity
from tests.export.graph.exported import run_onnx
from tests.export.quantize.making import Switched, as_written, hurt, switched, with_int8


def _is_kept(case: Switched, in_float: set[str], goal: Goal) -> bool:
    graph = case.graph
    on = set(graph.names) - in_float
    parity = compare([graph.run(clip, ()) for clip in case.clips], [graph.run(clip, on) for clip in case.clips])
    changed = round((1 - parity.top1_agreement) * parity.clips)
    return (parity.snr_db is None or parity.snr_db >= goal.snr_db) and changed <= goal.changed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["msf-r3d-fsam", "r3d-18", "cnn3d-gate"])
def test_the_goal_is_kept_and_no_layer_is_in_float_for_nothing(name: str) -> None:
    case = switched(name)
    sensitivity = measure_sensitivity(case.graph, case.clips, "an-int8")
    goal = Goal((sensitivity.snr_db or 0) + 3, len(case.clips))
    chosen = mix(case.graph, case.clips, sensitivity, goal)
    names = {layer.layer for layer in chosen.layers}
    assert chosen.is_met
    assert names
    assert chosen.share <= MOST_IN_FLOAT
    assert _is_kept(case, names, goal)
    assert (chosen.reached.snr_db or math.inf) >= goal.snr_db
    assert not any(_is_kept(case, names - {layer}, goal) for layer in names)
    # The quantizer makes the same of it.
    made = case.quantized(tuple(names))
    parity = compare([run_onnx(case.model, c) for c in case.clips], [as_written(made, c) for c in case.clips])
    assert parity.snr_db == pytest.approx(chosen.reached.snr_db, abs=1.0)  # float sums round otherwise


def test_a_goal_that_is_kept_as_it_is_takes_no_layer() -> None:
    case = switched("cnn3d-gate")
    sensitivity = measure_sensitivity(case.graph, case.clips, "an-int8")
    chosen = mix(case.graph, case.clips, sensitivity, Goal((sensitivity.snr_db or 0) - 1, len(case.clips)))
    assert (chosen.layers, chosen.share, chosen.is_met, chosen.reasons) == ((), 0.0, True, {})


@pytest.mark.slow
@pytest.mark.parametrize("place", [2, 4, 9])
def test_the_one_sensitive_layer_is_found(place: int) -> None:
    case = switched("r3d-18")
    weight = case.graph.layers[place].weight
    sick = with_int8(hurt(case.model, weight, 1e3), case.clips)
    whole = measure_sensitivity(case.graph, case.clips, "an-int8").snr_db or 0
    sensitivity = measure_sensitivity(sick.graph, case.clips, "an-int8")
    assert (sensitivity.snr_db or 0) < whole - 6
    chosen = mix(sick.graph, case.clips, sensitivity, Goal(whole - 3, len(case.clips)))
    # What it reads is made by the layer before it, which rounds the same tensor: both go, and nothing else.
    before = sick.graph.layers[place - 1].weight
    assert {layer.weight for layer in chosen.layers} <= {weight, before}
    assert weight in {layer.weight for layer in chosen.layers}
    assert all("INT8 in this layer alone" in reason for reason in chosen.reasons.values())


def test_a_goal_out_of_reach_says_how_close_it_came_and_what_would_do() -> None:
    case = switched("cnn3d-gate")
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


def test_the_goal_is_beyond_what_was_refused() -> None:
    case = switched("cnn3d-gate")
    parity = compare([case.graph.run(c, ()) for c in case.clips], [case.graph.run(c, ()) for c in case.clips])
    poor = parity.model_copy(update={"snr_db": 4.0, "clips": 32})
    good = parity.model_copy(update={"snr_db": 25.0, "clips": 32})
    assert next_goal(poor, 10.0, 1.0) == Goal(13.0, 1)
    assert next_goal(good, 10.0, 0.0) == Goal(28.0, 0)
    assert next_goal(good, 10.0, 10.0, raises=2) == Goal(34.0, 4)
    assert next_goal(parity, 10.0, 1.0) == Goal(13.0, 1)


def test_progress_is_reported() -> None:
    case, told = switched("cnn3d-gate"), []
    sensitivity = measure_sensitivity(case.graph, case.clips, "an-int8")
    goal = Goal((sensitivity.snr_db or 0) + 3, 6)
    mix(case.graph, case.clips, sensitivity, goal, lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
