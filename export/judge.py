"""Judging variants: agreement with PyTorch, accuracy and latency on this machine, and what is kept of them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from edgeact.bench import BenchPlan, measure_latency
from edgeact.calibration.accuracy import collect_scores, summarize
from edgeact.calibration.parity import compare_logits
from edgeact.devices import DeviceProfile, estimate_latency_ms
from edgeact.errors import ParityError
from edgeact.export.data import ExportData
from edgeact.export.models.cost import Cost
from edgeact.export.models.loading import LoadedModel
from edgeact.export.targets.variant import Variant
from edgeact.records import Accuracy, Latency, Parity, Row
from edgeact.runtime import OpenRequest, Session, get_backend

__all__ = ["Judge", "OnProgress", "Verdicts", "reference_name"]

Array = npt.NDArray[np.float32]
OnProgress = Callable[[str, int, int], None]

reference_name = "pytorch"
_VARIANT_PLAN = BenchPlan(warmup_runs=5, warmup_s=0.3, min_runs=64, min_s=1.0, max_s=60.0)
_REFERENCE_PLAN = BenchPlan(warmup_runs=2, warmup_s=0.0, min_runs=10, min_s=0.5, max_s=60.0)


@dataclass(frozen=True)
class Judge:
    """Measures variants of one model for one target."""

    model: LoadedModel
    data: ExportData
    profile: DeviceProfile
    at_hand: bool
    cost: Cost
    max_drop_points: float
    threads: int
    on_progress: OnProgress

    def rows(self, variants: Sequence[Variant]) -> Verdicts:
        """One row for PyTorch and one for each variant; ParityError where none agrees with PyTorch."""
        parities = self._parities(variants)
        passed = [variant for variant in variants if _passes(parities.get(_judged_name(variant)))]
        if not passed:
            told = "; ".join(f"{name}: {_parity_words(parity)}" for name, parity in parities.items())
            raise ParityError(f"no artifact agrees with PyTorch: {told}; convert in fp32 to find the layer")
        accuracies = self._accuracies(passed)
        latencies = self._latencies(passed) if self.at_hand else {}
        return self._decide(variants, _Measured(parities, accuracies, latencies))

    def _parities(self, variants: Sequence[Variant]) -> dict[str, Parity]:
        reference = np.concatenate([self._torch(clip) for clip in self.data.parity.inputs])
        parities = {}
        for done, variant in enumerate(variants, start=1):
            self.on_progress("parity with PyTorch", done, len(variants))
            if variant.checked_by:
                with self._open(variant) as session:
                    logits = np.concatenate([session.run(clip).logits for clip in self.data.parity.inputs])
                parities[variant.artifact.name] = compare_logits(
                    reference, logits, variant.artifact.precision, trained=self.model.trained
                )
        return parities

    def _accuracies(self, variants: Sequence[Variant]) -> dict[str, tuple[Accuracy, ...]]:
        """Of PyTorch and of all variants, on the same clips; empty where the labels are not the model's."""
        if self.data.source is None or not self.data.evaluation:
            return {}
        runs: dict[str, Callable[[Array], Array]] = {reference_name: self._torch}
        with contextlib.ExitStack() as stack:
            for variant in variants:
                if variant.checked_by:
                    session = stack.enter_context(self._open(variant))
                    runs[variant.artifact.name] = _runner(session)
            scores = collect_scores(
                runs,
                self.data.evaluation,
                self.model.clip,
                lambda done, total: self.on_progress("accuracy", done, total),
            )
        source = self.data.source
        return {name: summarize(score, source) for name, score in scores.items()}

    def _latencies(self, variants: Sequence[Variant]) -> dict[str, Latency]:
        clip = self.data.parity.inputs[0]
        latencies = {}
        for done, variant in enumerate(variants, start=1):
            self.on_progress("latency", done, len(variants))
            with self._open(variant) as session:
                run = functools.partial(session.run, clip)
                latencies[variant.artifact.name] = measure_latency(run, _VARIANT_PLAN, threads=self.threads)
        run_reference = functools.partial(self._torch, clip)
        latencies[reference_name] = measure_latency(run_reference, _REFERENCE_PLAN, threads=self.threads)
        return latencies

    def _torch(self, clip: Array) -> Array:
        with torch.no_grad():
            logits: Array = self.model.module(torch.from_numpy(clip)).float().numpy()
        return logits

    def _open(self, variant: Variant) -> Session:
        data = dict(variant.members.values())
        backend = get_backend(str(variant.checked_by))
        return Session(
            backend,
            OpenRequest(
                graph=variant.checked_graph or data["graph"],
                kind=variant.artifact.kind,
                precision=variant.artifact.precision,
                input_shape=self.model.clip.input_shape,
                output_size=len(self.model.labels),
                weights=data.get("weights"),
                threads=self.threads,
                device="CPU",
            ),
        )

    def _decide(self, variants: Sequence[Variant], measured: _Measured) -> Verdicts:
        drops = measured.drops()
        allowed = {
            variant.artifact.name: _refusal(measured.parities.get(name), drops.get(name), self.max_drop_points)
            for variant in variants
            for name in [_judged_name(variant)]
        }
        order = [variant.artifact.name for variant in variants if allowed[variant.artifact.name] is None]
        if not order:
            raise ParityError(
                f"no artifact stays within {self.max_drop_points} points of PyTorch's accuracy: "
                + "; ".join(f"{name}: {reason}" for name, reason in allowed.items())
                + "; allow more with --max-drop, or choose a higher precision"
            )
        if self.at_hand:
            order.sort(key=lambda name: measured.latencies[name].p50_ms)
        rows = [self._reference_row(measured)]
        for variant in variants:
            rows.append(self._row(variant, measured, allowed[variant.artifact.name], order))
        return Verdicts(tuple(rows), tuple(order))

    def _reference_row(self, measured: _Measured) -> Row:
        return Row(
            artifact=reference_name,
            precision="fp32",
            backend="pytorch",
            device="CPU",
            size_bytes=sum(tensor.nbytes for tensor in self.model.module.state_dict().values()),
            accuracy=measured.accuracies.get(reference_name, ()),
            latency=measured.latencies.get(reference_name),
            verdict="reference",
            reason="what every artifact is compared with",
        )

    def _row(self, variant: Variant, measured: _Measured, refusal: str | None, order: Sequence[str]) -> Row:
        artifact, name = variant.artifact, variant.artifact.name
        if refusal:
            verdict, reason = "rejected", refusal
        elif not self.at_hand:
            verdict, reason = "candidate", "the target is not at hand: the device times the candidates itself"
        elif name == order[0]:
            verdict, reason = "chosen", "fastest within the accuracy budget on this machine"
        else:
            ratio = measured.latencies[name].p50_ms / measured.latencies[order[0]].p50_ms
            verdict, reason = "rejected", f"{ratio:.2f} times the latency of {order[0]}"
        estimate = None
        if not self.at_hand:
            bytes_moved = self.cost.bytes_moved(artifact.precision)
            estimate = estimate_latency_ms(self.profile, self.cost.macs, bytes_moved, artifact.precision)
        return Row.model_validate(
            {
                "artifact": name,
                "precision": artifact.precision,
                "backend": artifact.backends[0],
                "device": variant.device,
                "size_bytes": variant.size_bytes,
                "parity": measured.parities.get(name),
                "accuracy": measured.accuracies.get(name, ()),
                "latency": measured.latencies.get(name),
                "latency_estimate_ms": estimate.latency_ms if estimate else None,
                "verdict": verdict,
                "reason": reason,
            }
        )


@dataclass(frozen=True)
class Verdicts:
    """Rows for the record, and the artifacts that may be shipped, best first."""

    rows: tuple[Row, ...]
    order: tuple[str, ...]


@dataclass(frozen=True)
class _Measured:
    parities: Mapping[str, Parity]
    accuracies: Mapping[str, tuple[Accuracy, ...]]
    latencies: Mapping[str, Latency] = field(default_factory=dict)

    def drops(self) -> dict[str, float]:
        """Points of video-level top-1 lost against PyTorch on the same videos."""
        if reference_name not in self.accuracies:
            return {}
        base = _video_top1(self.accuracies[reference_name])
        return {name: 100 * (base - _video_top1(pair)) for name, pair in self.accuracies.items()}


def _video_top1(pair: Sequence[Accuracy]) -> float:
    return next(accuracy.top1 for accuracy in pair if accuracy.level == "video")


def _runner(session: Session) -> Callable[[Array], Array]:
    return lambda clip: session.run(clip).logits


def _judged_name(variant: Variant) -> str:
    """Whose parity and accuracy decide: an engine's are those of the graph it was built from."""
    return variant.built_from or variant.artifact.name


def _passes(parity: Parity | None) -> bool:
    return parity is None or parity.passed


def _refusal(parity: Parity | None, drop: float | None, max_drop_points: float) -> str | None:
    if parity is not None and not parity.passed:
        return f"does not agree with PyTorch: {_parity_words(parity)}"
    if drop is not None and drop > max_drop_points:
        return f"loses {drop:.1f} points of top-1, {max_drop_points:.1f} are allowed"
    return None


def _parity_words(parity: Parity) -> str:
    limits = parity.limits
    snr = "exact" if parity.snr_db is None else f"{parity.snr_db:.1f} dB"
    return (
        f"SNR {snr} (expected {limits.snr_db:.0f} dB), same top-1 on {parity.top1_agreement:.0%} of "
        f"{parity.clips} clips (expected {limits.top1_agreement:.0%}), largest error {parity.max_abs_error:.2g}"
    )
