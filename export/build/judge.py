"""The stages 'check', 'measure' and 'select': parity and accuracy, then latency, then a verdict for each candidate."""

from __future__ import annotations

from dataclasses import replace

from edgeact.export.build.exactness import with_inexact_kernels
from edgeact.export.build.explain_latency import with_causes
from edgeact.export.build.measure import meter_of, references_of
from edgeact.export.build.mixed import with_mixed
from edgeact.export.build.select import Terms, refusal
from edgeact.export.build.select import select as select_candidates
from edgeact.export.build.state import Build, Context

__all__ = ["check", "measure", "select"]


def check(build: Build, context: Context) -> Build:
    """Compare all candidates with PyTorch and measure accuracy; try mixed precision if INT8 is not accurate enough."""
    meter = meter_of(build, context)
    compared = meter.compare(build.candidates)
    if build.inputs.profile.family == "cpu":
        compared = with_inexact_kernels(compared, build.graphs, meter)
    candidates, references = meter.score(compared, references_of(build))
    checked = replace(build, candidates=candidates, references=references)
    if build.recipe.precision in ("auto", "mixed"):
        checked = with_mixed(checked, context, meter, _terms(checked))
    return checked


def measure(build: Build, context: Context) -> Build:
    """Time the candidates and PyTorch in one run, and profile all but the fastest; nothing if the target is elsewhere.

    A GPU, even one at hand, times the candidates when the bundle is loaded: by then its own TensorRT builds the
    engines, which need not be the TensorRT of this Python environment.
    """
    if not build.can_time:
        return build
    meter, terms = meter_of(build, context), _terms(build)
    refused = [candidate.name for candidate in build.candidates if refusal(candidate, terms) is not None]
    candidates, references = meter.time(build.candidates, build.references, refused)
    candidates = with_causes(candidates, meter, build.inputs.profile)
    return replace(build, candidates=candidates, references=references)


def select(build: Build, context: Context) -> Build:
    """Give each candidate its verdict. Raises ParityError if no candidate can be shipped."""
    context.callbacks.begin("selecting artifacts")
    selection = select_candidates(build.candidates, _terms(build))
    return replace(build, candidates=selection.candidates, shipped=selection.shipped, is_timed=selection.is_timed)


def _terms(build: Build) -> Terms:
    converted, unpruned = build.converted, build.references[-1]
    counts_from = unpruned if converted.drop_counts_from_unpruned else build.references[0]
    return Terms(
        max_drop_points=build.recipe.max_drop_points,
        reference=counts_from.accuracy,
        converted=build.references[0].accuracy,
        trained=build.model.trained,
        int8_requested=build.recipe.precisions == ("int8",),
        counts_from_unpruned=converted.drop_counts_from_unpruned,
    )
