"""Mixed precision: if INT8 is not accurate enough, candidates with the layers kept in float that INT8 damages most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeact.errors import EdgeactError
from edgeact.export.build.exactness import with_inexact_kernels
from edgeact.export.build.lower import merged, tuner_of
from edgeact.export.build.measure import Meter
from edgeact.export.build.select import Terms, inaccurate_int8
from edgeact.export.build.state import Build, Context
from edgeact.export.build.targets import FAMILIES
from edgeact.export.candidates.candidate import Candidate, TargetGraph
from edgeact.export.candidates.int8 import Tuning
from edgeact.reasons import Decision, MixedPrecisionFailed

__all__ = ["with_mixed"]

_ATTEMPTS = 3


@dataclass(frozen=True)
class _Attempt:
    graphs: tuple[TargetGraph, ...]
    candidates: tuple[Candidate, ...]
    decisions: tuple[Decision, ...]


def with_mixed(build: Build, context: Context, meter: Meter, terms: Terms) -> Build:
    """Return the build with a mixed-precision candidate after each INT8 candidate, if INT8 is not accurate enough.

    Layers are chosen on calibration clips and the candidates checked on others, like every candidate. Refused mixed
    candidates are built again with a goal that is 3 dB higher, at most three times and while the goal is within reach.
    The last ones stay, refused or not.
    """
    tuner = tuner_of(build, context)
    if tuner is None or not inaccurate_int8(build.candidates, terms):
        return build
    last: _Attempt | None = None
    decisions = build.decisions
    for number in range(_ATTEMPTS):
        try:
            attempt = _attempt(build, context, meter, Tuning(tuner, number))
        except EdgeactError as error:
            decisions = merged(decisions, [MixedPrecisionFailed(error=str(error))])
            break
        last = attempt
        decisions = merged(decisions, attempt.decisions)
        is_reached = all(graph.goal_met for graph in attempt.graphs)
        if not is_reached or not inaccurate_int8(attempt.candidates, terms):
            break
    if last is None:
        return replace(build, decisions=decisions)
    candidates = _with_twins(build.candidates, last.candidates)
    return replace(build, graphs=build.graphs + last.graphs, candidates=candidates, decisions=decisions)


def _attempt(build: Build, context: Context, meter: Meter, tuning: Tuning) -> _Attempt:
    inputs = replace(build.lowered.inputs, precisions=("int8",))
    family = FAMILIES[inputs.profile.family]
    target_graphs = family.graphs(inputs, tuning, context.callbacks)
    emitted = family.emit(inputs, target_graphs.graphs, context.callbacks)
    compared = meter.compare(emitted.candidates)
    if inputs.profile.family == "cpu":
        compared = with_inexact_kernels(compared, target_graphs.graphs, meter)
    checked, _ = meter.score(compared, build.references)
    decisions = merged(target_graphs.decisions, *(graph.decisions for graph in target_graphs.graphs), emitted.decisions)
    return _Attempt(target_graphs.graphs, checked, decisions)


def _with_twins(candidates: Sequence[Candidate], mixed: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates, each INT8 candidate followed by the mixed candidate of its family."""
    twins = {candidate.family: candidate for candidate in mixed}
    result: list[Candidate] = []
    for candidate in candidates:
        result.append(candidate)
        if candidate.label == "int8" and candidate.family in twins:
            result.append(twins[candidate.family])
    return tuple(result)
