"""Judging variants by what was measured of them: what is shipped, in which order, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeact.devices import DeviceProfile, estimate_latency_ms
from edgeact.errors import ParityError
from edgeact.export.build.measure import REFERENCE, UNPRUNED, Measured
from edgeact.export.candidates.candidate import Variant
from edgeact.export.models.cost import Cost
from edgeact.records import Accuracy, Parity, Row, Verdict

__all__ = ["Terms", "Verdicts", "inaccurate_int8", "judge", "refusals"]

_UNPROVEN = "accuracy not measured, so INT8 is not preferred: give --labels and --data data with the model's labels"
_PRUNE_LESS = "prune less (--prune, --prune-layer), train longer (--epochs, --prune-steps) "


@dataclass(frozen=True)
class Terms:
    """What variants are judged by."""

    profile: DeviceProfile
    cost: Cost
    reference_bytes: int
    """Size of the PyTorch model's parameters and buffers."""
    max_drop_points: float
    """Points of video-level top-1 that may be lost against PyTorch: the model as it is, or as it was unpruned."""
    trained: bool = True
    """False for random weights, whose accuracy means nothing: there latency alone decides."""
    int8_asked: bool = False
    """Whether INT8 was asked for by name, and so is taken without a measured accuracy too."""
    unpruned_bytes: int | None = None
    """Size of the PyTorch model before it was pruned; None where it was not."""
    counts_from_unpruned: bool = False
    """Whether the loss of accuracy counts from that model and not from the pruned one."""

    @property
    def drop_from(self) -> str:
        """Under which name the accuracy stands that must not be lost."""
        return UNPRUNED if self.counts_from_unpruned else REFERENCE


@dataclass(frozen=True)
class Verdicts:
    """Rows for the record, PyTorch's first, and the names of what is shipped, best first."""

    rows: tuple[Row, ...]
    shipped: tuple[str, ...]
    timed: bool
    """Whether latency decided; else the device has to."""


def judge(variants: Sequence[Variant], measured: Measured, terms: Terms) -> Verdicts:
    """Decide what is shipped; an engine follows the graph it was built from.

    With latencies: the fastest variant within the accuracy budget, and behind it the fastest of every other backend.
    Without: every variant within the budget, in the given order, for the device to decide.
    Where nobody could measure the accuracy of INT8 it is never preferred: it comes behind what is float where latency
    was measured, and is left out where the device would decide by latency alone; see Terms for the exceptions.
    Raises ParityError naming every variant's own reason where nothing is left.
    """
    refused = refusals(variants, measured, terms)
    if not measured.latencies:
        refused |= _unproven_refusals(variants, refused, measured, terms)
    allowed = [variant for variant in variants if variant.artifact.name not in refused]
    if not allowed:
        told = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ParityError(
            f"nothing to ship: {told}; try a higher precision (--precision mixed leaves the layers in float that INT8 "
            "damages most, --precision fp32 finds a layer that converts wrongly), "
            f"{_PRUNE_LESS if terms.counts_from_unpruned else ''}or allow a larger loss of accuracy (--max-drop)"
        )
    shipped = _shipped_of(allowed, measured, terms) if measured.latencies else allowed
    names = tuple(variant.artifact.name for variant in shipped)
    rows = [_reference_row(measured, terms), *_unpruned_rows(measured, terms)]
    for variant in variants:
        refusal = refused.get(variant.artifact.name)
        verdict, reason = _verdict(variant, measured, terms, names) if refusal is None else _rejected(refusal)
        if verdict == "chosen":
            reason += _level_words(names[0], [one.artifact.name for one in allowed], measured)
        rows.append(_row(variant, measured, terms, verdict, reason))
    return Verdicts(tuple(rows), names, bool(measured.latencies))


def refusals(variants: Sequence[Variant], measured: Measured, terms: Terms) -> dict[str, str]:
    """Name -> why it cannot be shipped, whatever its latency."""
    return {variant.artifact.name: reason for variant in variants if (reason := _refusal(variant, measured, terms))}


def inaccurate_int8(variants: Sequence[Variant], measured: Measured, terms: Terms) -> tuple[str, ...]:
    """Names of the INT8 variants that run, but are refused for their accuracy; none where PyTorch's own is refused."""
    lost = _drop_points(measured, REFERENCE, terms)
    if lost is not None and lost > terms.max_drop_points:
        return ()
    return tuple(
        variant.artifact.name
        for variant in variants
        if variant.artifact.precision == "int8"
        and variant.judged_name in measured.parities
        and _refusal(variant, measured, terms)
    )


def _refusal(variant: Variant, measured: Measured, terms: Terms) -> str | None:
    name = variant.judged_name
    if failure := measured.failures.get(name):
        return f"does not run: {failure}"
    parity = measured.parities.get(name)
    if parity is None:
        return "could not be compared with PyTorch on this machine"
    if not parity.passed:
        return f"does not agree with PyTorch: {_parity_words(parity)}"
    drop = _drop_points(measured, name, terms)
    if drop is not None and drop > terms.max_drop_points:
        digits = 1 if round(drop, 1) > round(terms.max_drop_points, 1) else 3
        return f"loses {drop:.{digits}f} points of top-1, {terms.max_drop_points:.{digits}f} are allowed"
    return None


def _parity_words(parity: Parity) -> str:
    limits = parity.limits
    snr = "exact" if parity.snr_db is None else f"{parity.snr_db:.1f} dB"
    most = "" if limits.max_abs_error is None else f" (at most {limits.max_abs_error:.2g})"
    return (
        f"SNR {snr} (at least {limits.snr_db:.0f} dB), same top-1 on {parity.top1_agreement:.0%} of "
        f"{parity.clips} clips (expected {limits.top1_agreement:.0%}), largest error {parity.max_abs_error:.2g}{most}"
    )


def _drop_points(measured: Measured, name: str, terms: Terms) -> float | None:
    """Points of video-level top-1 lost against PyTorch on the same videos; None where it was not measured."""
    if not {terms.drop_from, name} <= measured.accuracies.keys():
        return None
    reference, own = _of_videos(measured.accuracies[terms.drop_from]), _of_videos(measured.accuracies[name])
    return 100 * (reference.correct - own.correct) / reference.count


def _of_videos(accuracies: Sequence[Accuracy]) -> Accuracy:
    return next(accuracy for accuracy in accuracies if accuracy.level == "video")


def _is_unproven(variant: Variant, measured: Measured, terms: Terms) -> bool:
    """Whether it is INT8 that nobody knows the accuracy of, and that nobody asked for by name."""
    if variant.artifact.precision != "int8" or terms.int8_asked or not terms.trained:
        return False
    return _drop_points(measured, variant.judged_name, terms) is None


def _unproven_refusals(
    variants: Sequence[Variant], refusals: Mapping[str, str], measured: Measured, terms: Terms
) -> dict[str, str]:
    """INT8 of unknown accuracy, which a device that only times would prefer; kept where nothing else is left."""
    left = [variant for variant in variants if variant.artifact.name not in refusals]
    unproven = [variant for variant in left if _is_unproven(variant, measured, terms)]
    if len(unproven) == len(left):
        return {}
    return {variant.artifact.name: f"{_UNPROVEN}, or ask for it with --precision int8" for variant in unproven}


def _shipped_of(allowed: Sequence[Variant], measured: Measured, terms: Terms) -> list[Variant]:
    """The fastest by backend; INT8 of unknown accuracy at the end, its fastest one, and only if it is the faster."""
    proven = [variant for variant in allowed if not _is_unproven(variant, measured, terms)]
    if not proven:
        return _fastest_by_backend(allowed, measured)
    shipped = _fastest_by_backend(proven, measured)
    first = min(allowed, key=lambda variant: measured.latencies[variant.artifact.name].p50_ms)
    return shipped if first in proven else [*shipped, first]


def _fastest_by_backend(variants: Sequence[Variant], measured: Measured) -> list[Variant]:
    ordered = sorted(variants, key=lambda variant: measured.latencies[variant.artifact.name].p50_ms)
    fastest: dict[tuple[str, ...], Variant] = {}
    for variant in ordered:
        fastest.setdefault(variant.artifact.backends, variant)
    return list(fastest.values())


def _verdict(variant: Variant, measured: Measured, terms: Terms, shipped: Sequence[str]) -> tuple[Verdict, str]:
    name = variant.artifact.name
    if not measured.latencies:
        told = "the target was not timed here: the device times the candidates itself"
        known = _drop_points(measured, variant.judged_name, terms) is not None
        return "candidate", told if known else f"{told}; {_unknown_accuracy(terms)}"
    if name == shipped[0]:
        return "chosen", _chosen_words(variant, measured, terms)
    ratio = measured.latencies[name].p50_ms / measured.latencies[shipped[0]].p50_ms
    level = " (their intervals overlap)" if _is_level(name, shipped[0], measured) else ""
    slower = f"{ratio:.2f} times the latency of {shipped[0]}{level}"
    if ratio > 1 and (why := measured.reasons.get(name)):
        slower = f"{slower}: {why}"
    if _is_unproven(variant, measured, terms):
        slower = f"{slower}; {_UNPROVEN}"
        return ("candidate", slower) if name in shipped else _rejected(slower)
    if name in shipped:
        return "candidate", f"{slower}; kept for machines that cannot run that"
    return _rejected(slower)


def _rejected(reason: str) -> tuple[Verdict, str]:
    return "rejected", reason


def _chosen_words(variant: Variant, measured: Measured, terms: Terms) -> str:
    if _drop_points(measured, variant.judged_name, terms) is not None:
        return "fastest within the accuracy budget on this machine"
    if not terms.trained or terms.int8_asked or variant.artifact.precision == "int8":
        return f"fastest on this machine; {_unknown_accuracy(terms)}"
    return f"fastest float artifact on this machine; {_UNPROVEN}"


def _level_words(chosen: str, allowed: Sequence[str], measured: Measured) -> str:
    """Which others may be as fast, for all that the measurement tells; empty where none or nothing was timed."""
    level = [name for name in allowed if name != chosen and _is_level(name, chosen, measured)]
    return f"; not told apart from {', '.join(level)}: the intervals of their latency overlap" if level else ""


def _is_level(name: str, other: str, measured: Measured) -> bool:
    return measured.latencies[name].p50_interval.overlaps(measured.latencies[other].p50_interval)


def _unknown_accuracy(terms: Terms) -> str:
    return "accuracy not measured" if terms.trained else "random weights: accuracy means nothing"


def _reference_row(measured: Measured, terms: Terms) -> Row:
    return Row(
        artifact=REFERENCE,
        precision="fp32",
        backend="pytorch",
        device="CPU",
        size_bytes=terms.reference_bytes,
        accuracy=measured.accuracies.get(REFERENCE, ()),
        latency=measured.latencies.get(REFERENCE),
        verdict="reference",
        reason="what every artifact is compared with",
        drop=measured.drops.get(REFERENCE),
    )


def _unpruned_rows(measured: Measured, terms: Terms) -> tuple[Row, ...]:
    if terms.unpruned_bytes is None:
        return ()
    counted = "what a loss of accuracy counts from" if terms.counts_from_unpruned else "as it was before pruning"
    row = Row(
        artifact=UNPRUNED,
        precision="fp32",
        backend="pytorch",
        device="CPU",
        size_bytes=terms.unpruned_bytes,
        accuracy=measured.accuracies.get(UNPRUNED, ()),
        latency=measured.latencies.get(UNPRUNED),
        verdict="reference",
        reason=counted,
    )
    return (row,)


def _row(variant: Variant, measured: Measured, terms: Terms, verdict: Verdict, reason: str) -> Row:
    artifact = variant.artifact
    estimate = None
    if not measured.latencies:
        moved = terms.cost.bytes_moved(artifact.precision)
        estimate = estimate_latency_ms(terms.profile, terms.cost.macs, moved, artifact.precision)
    return Row(
        artifact=artifact.name,
        precision=artifact.precision,
        backend=artifact.backends[0],
        device=variant.device,
        size_bytes=variant.size_bytes,
        parity=measured.parities.get(artifact.name),
        accuracy=measured.accuracies.get(artifact.name, ()),
        latency=measured.latencies.get(artifact.name),
        latency_estimate_ms=estimate.latency_ms if estimate else None,
        drop=measured.drops.get(artifact.name),
        verdict=verdict,
        reason=reason,
    )
