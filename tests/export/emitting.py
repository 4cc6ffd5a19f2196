"""Candidates of a target, made by its two steps, for tests that need no whole build."""

from __future__ import annotations

from edgeact.export.build.lower import merged
from edgeact.export.build.targets import FAMILIES
from edgeact.export.candidates.candidate import BuildInputs, Candidate
from edgeact.export.candidates.int8 import Tuning
from edgeact.progress import Callbacks
from edgeact.reasons import Decision

__all__ = ["emitted"]


def emitted(inputs: BuildInputs, tuning: Tuning | None = None) -> tuple[tuple[Candidate, ...], tuple[Decision, ...]]:
    """Return the candidates of the inputs' target, and the decisions."""
    family, callbacks = FAMILIES[inputs.profile.family], Callbacks()
    made = family.graphs(inputs, tuning, callbacks)
    result = family.emit(inputs, made.graphs, callbacks)
    decisions = merged(made.decisions, *(graph.decisions for graph in made.graphs), result.decisions)
    return result.candidates, decisions
