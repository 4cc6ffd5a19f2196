"""Selecting candidates by what was measured of them: which are shipped, in which order, and why not the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeact.errors import ParityError
from edgeact.export.candidates.candidate import Candidate
from edgeact.phrases import phrase
from edgeact.reasons import (
    AccuracyDropTooLarge,
    AccuracyUnknown,
    ChosenFastest,
    DecidedOnDevice,
    KernelsInexact,
    NotCompared,
    ParityTooLow,
    Reason,
    RunFailed,
    SlowerThanChosen,
    UnknownAccuracy,
)
from edgeact.records import Accuracy, Parity, Verdict

__all__ = ["Selection", "Terms", "drop_points", "inaccurate_int8", "refusal", "select"]

_PRUNE_LESS = "prune less (--prune, --prune-layer), train longer (--epochs, --prune-steps) "


@dataclass(frozen=True)
class Terms:
    """What candidates are selected by."""

    max_drop_points: float
    """Points of video-level top-1 that may be lost against the reference."""
    reference: tuple[Accuracy, ...] = ()
    """Accuracy of the PyTorch model that the drop counts from; empty if it was not measured."""
    converted: tuple[Accuracy, ...] = ()
    """Accuracy of the PyTorch model that was converted; differs from the reference after pruning and fine-tuning."""
    trained: bool = True
    """False for random weights, whose accuracy means nothing: latency alone decides."""
    int8_requested: bool = False
    """Whether INT8 was requested by name, and so is shipped without a measured accuracy too."""
    counts_from_unpruned: bool = False
    """Whether the reference is the model before pruning."""


@dataclass(frozen=True)
class Selection:
    """The candidates with verdict and reason, and the names of the shipped artifacts, best first."""

    candidates: tuple[Candidate, ...]
    shipped: tuple[str, ...]
    is_timed: bool
    """Whether latency decided; else the device has to."""


def select(candidates: Sequence[Candidate], terms: Terms) -> Selection:
    """Decide which candidates are shipped; an engine follows the graph it was compiled from.

    With latencies: the fastest candidate within the accuracy budget, followed by the fastest of each other backend.
    Without: every candidate within the budget, in the given order, for the device to decide.
    INT8 whose accuracy could not be measured is never preferred: it follows the float candidates if latency was
    measured, and is left out if the device would decide by latency alone; `Terms` has the exceptions.
    Raises ParityError with the reason of every candidate if nothing is left.
    """
    is_timed = any(candidate.latency for candidate in candidates)
    judged = [_judged(candidate, refusal(candidate, terms)) for candidate in candidates]
    if not is_timed:
        judged = _without_unproven(judged, terms)
    allowed = [candidate for candidate in judged if candidate.reason is None]
    if not allowed:
        reasons = "; ".join(f"{candidate.name}: {phrase(candidate.reason)}" for candidate in judged)
        raise ParityError(f"nothing to ship: {reasons}; {_advice(judged, terms)}")
    shipped = _shipped(allowed, terms) if is_timed else allowed
    verdicts = tuple(
        _with_verdict(candidate, shipped, allowed, terms) if candidate.reason is None else candidate
        for candidate in judged
    )
    return Selection(verdicts, tuple(candidate.name for candidate in shipped), is_timed)


def _advice(judged: Sequence[Candidate], terms: Terms) -> str:
    """Return what to do if nothing can be shipped."""
    if all(isinstance(candidate.reason, KernelsInexact) for candidate in judged):
        return (
            "the INT8 graph is accurate, so mixed precision and a larger accuracy drop do not help: ship a float "
            "artifact (--precision auto), or export on a CPU whose kernels are exact"
        )
    return (
        "try a higher precision (--precision mixed keeps the layers in float that INT8 damages most, --precision fp32 "
        f"finds a layer that converts wrongly), {_PRUNE_LESS if terms.counts_from_unpruned else ''}or allow a larger "
        "accuracy drop (--max-drop)"
    )


def refusal(candidate: Candidate, terms: Terms) -> Reason | None:
    """Return why the candidate cannot be shipped, whatever its latency; None if it can."""
    judged = candidate.judged
    if judged.run_error is not None:
        return RunFailed(error=judged.run_error)
    if judged.parity is None:
        return NotCompared()
    if judged.inexact is not None:
        return judged.inexact
    if not judged.parity.passed:
        return _parity_too_low(judged.parity)
    points = drop_points(judged.accuracy, terms.reference)
    if points is not None and points > terms.max_drop_points:
        return AccuracyDropTooLarge(points=points, allowed=terms.max_drop_points)
    return None


def inaccurate_int8(candidates: Sequence[Candidate], terms: Terms) -> bool:
    """Return whether INT8 is not accurate enough: candidates are refused for their accuracy, and none is accepted.

    If one is accepted, or all are refused for inexact kernels, the INT8 graph is accurate and kernels are at fault,
    which mixed precision does not cure. Never if PyTorch's own accuracy is refused.
    """
    lost = drop_points(terms.converted, terms.reference)
    if lost is not None and lost > terms.max_drop_points:
        return False
    refusals = [refusal(candidate, terms) for candidate in candidates if candidate.precision == "int8"]
    is_accurate = any(reason is None for reason in refusals)
    return not is_accurate and any(isinstance(reason, ParityTooLow | AccuracyDropTooLarge) for reason in refusals)


def drop_points(accuracy: Sequence[Accuracy], reference: Sequence[Accuracy]) -> float | None:
    """Return the points of video-level top-1 lost against `reference` on the same videos; None if not measured."""
    if not (accuracy and reference):
        return None
    before, after = _of_videos(reference), _of_videos(accuracy)
    return 100 * (before.correct - after.correct) / before.count


def _of_videos(accuracies: Sequence[Accuracy]) -> Accuracy:
    return next(accuracy for accuracy in accuracies if accuracy.level == "video")


def _parity_too_low(parity: Parity) -> ParityTooLow:
    return ParityTooLow(
        clips=parity.clips,
        snr_db=parity.snr_db,
        snr_limit_db=parity.limits.snr_db,
        top1_agreement=parity.top1_agreement,
        top1_limit=parity.limits.top1_agreement,
        max_abs_error=parity.max_abs_error,
        max_abs_limit=parity.limits.max_abs_error,
    )


def _has_accuracy(candidate: Candidate, terms: Terms) -> bool:
    return drop_points(candidate.judged.accuracy, terms.reference) is not None


def _is_unproven(candidate: Candidate, terms: Terms) -> bool:
    """Return whether the candidate is INT8 of unknown accuracy that was not requested by name."""
    if candidate.precision != "int8" or terms.int8_requested or not terms.trained:
        return False
    return not _has_accuracy(candidate, terms)


def _judged(candidate: Candidate, refused: Reason | None) -> Candidate:
    """Return the candidate rejected for the reason `refused`, or without a verdict if there is none."""
    return replace(candidate, verdict=None if refused is None else "rejected", reason=refused)


def _without_unproven(judged: Sequence[Candidate], terms: Terms) -> list[Candidate]:
    """Reject INT8 of unknown accuracy, which a device that only times would prefer, unless nothing else is left."""
    if all(candidate.reason is not None or _is_unproven(candidate, terms) for candidate in judged):
        return list(judged)
    return [
        _judged(candidate, AccuracyUnknown())
        if candidate.reason is None and _is_unproven(candidate, terms)
        else candidate
        for candidate in judged
    ]


def _p50_ms(candidate: Candidate) -> float:
    if candidate.latency is None:
        raise ValueError(f"candidate '{candidate.name}' was not timed")
    return candidate.latency.p50_ms


def _shipped(allowed: Sequence[Candidate], terms: Terms) -> list[Candidate]:
    """Return the fastest of each backend; INT8 of unknown accuracy last, only its fastest, and only if it is faster."""
    proven = [candidate for candidate in allowed if not _is_unproven(candidate, terms)]
    if not proven:
        return _fastest_by_backend(allowed)
    shipped = _fastest_by_backend(proven)
    fastest = min(allowed, key=_p50_ms)
    return shipped if any(fastest is candidate for candidate in proven) else [*shipped, fastest]


def _fastest_by_backend(candidates: Sequence[Candidate]) -> list[Candidate]:
    fastest: dict[tuple[str, ...], Candidate] = {}
    for candidate in sorted(candidates, key=_p50_ms):
        fastest.setdefault(candidate.artifact.backends, candidate)
    return list(fastest.values())


def _with_verdict(
    candidate: Candidate, shipped: Sequence[Candidate], allowed: Sequence[Candidate], terms: Terms
) -> Candidate:
    verdict, reason = _verdict(candidate, shipped, allowed, terms)
    return replace(candidate, verdict=verdict, reason=reason)


def _verdict(
    candidate: Candidate, shipped: Sequence[Candidate], allowed: Sequence[Candidate], terms: Terms
) -> tuple[Verdict, Reason]:
    chosen = shipped[0]
    if candidate.latency is None:
        known = _has_accuracy(candidate, terms)
        return "candidate", DecidedOnDevice(unknown_accuracy=None if known else _unknown_accuracy(terms))
    if candidate.name == chosen.name:
        return "chosen", _chosen(candidate, allowed, terms)
    is_shipped = any(candidate.name == each.name for each in shipped)
    is_unproven = _is_unproven(candidate, terms)
    ratio = _p50_ms(candidate) / _p50_ms(chosen)
    slower = SlowerThanChosen(
        chosen=chosen.name,
        ratio=ratio,
        intervals_overlap=_overlap(candidate, chosen),
        causes=candidate.latency_causes if ratio > 1 else (),
        is_fallback=is_shipped and not is_unproven,
        accuracy_unknown=is_unproven,
    )
    return ("candidate" if is_shipped else "rejected"), slower


def _chosen(candidate: Candidate, allowed: Sequence[Candidate], terms: Terms) -> ChosenFastest:
    unknown: UnknownAccuracy | None = None
    if not _has_accuracy(candidate, terms):
        unknown = _unknown_accuracy(terms)
        if unknown == "not-measured" and not terms.int8_requested and candidate.precision != "int8":
            unknown = "int8-not-preferred"
    tied = tuple(each.name for each in allowed if each.name != candidate.name and _overlap(each, candidate))
    return ChosenFastest(unknown_accuracy=unknown, not_distinguished_from=tied)


def _overlap(candidate: Candidate, other: Candidate) -> bool:
    """Return whether the confidence intervals of two latencies overlap."""
    if candidate.latency is None or other.latency is None:
        return False
    return candidate.latency.p50_interval.overlaps(other.latency.p50_interval)


def _unknown_accuracy(terms: Terms) -> UnknownAccuracy:
    return "not-measured" if terms.trained else "random-weights"
