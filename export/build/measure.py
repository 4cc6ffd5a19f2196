"""Measuring variants on this machine: agreement with PyTorch, accuracy, and latency where it means something."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgeact.bench import BenchPlan, interleave, measure_latency
from edgeact.calibration.accuracy import Scores, collect_scores, summarize
from edgeact.calibration.paired_test import compare_paired
from edgeact.calibration.parity import compare_logits
from edgeact.errors import DeviceError, ModelError
from edgeact.export.build.data import ExportData
from edgeact.export.candidates.candidate import Variant
from edgeact.export.models.loading import LoadedModel
from edgeact.progress import TIMED_STEP, OnProgress, OnStep, titled
from edgeact.records import Accuracy, Latency, PairedDrop, Parity
from edgeact.runtime import OpenRequest, Session, get_backend

__all__ = ["REFERENCE", "UNPRUNED", "Measured", "Meter", "open_variant", "time_variants"]

Array = npt.NDArray[np.float32]

REFERENCE = "pytorch"
UNPRUNED = "pytorch-unpruned"
_SCREENING_PLAN = BenchPlan(warmup_runs=3, warmup_s=0.2, min_runs=12, min_s=0.2, max_s=60.0)
_NEAR = 1.5  # a variant this many times slower than the best in a dozen runs will not win in more
_ROUNDS = 100
_REFERENCE_PLAN = BenchPlan(warmup_runs=2, warmup_s=0.0, min_runs=10, min_s=0.5, max_s=60.0)


@dataclass(frozen=True)
class Measured:
    """What was measured, by the variant's name; accuracy and latency also under REFERENCE, and UNPRUNED too.

    Only variants that a CPU can execute have figures, and only those that agree with PyTorch have more than parity.
    """

    parities: Mapping[str, Parity]
    failures: Mapping[str, str] = field(default_factory=dict)
    """Variants that could not be opened or run at all, with the reason."""
    accuracies: Mapping[str, tuple[Accuracy, ...]] = field(default_factory=dict)
    """Empty where the data set's labels are not the model's."""
    latencies: Mapping[str, Latency] = field(default_factory=dict)
    """Empty where the target is not at hand."""
    drops: Mapping[str, PairedDrop] = field(default_factory=dict)
    """Video-level top-1 lost against UNPRUNED, on the same videos; empty where there is none, or no accuracy."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why variants take longer than the fastest; empty where nothing was timed."""

    def joined(self, other: Measured) -> Measured:
        """This with what was measured of other variants, `other`; neither has latencies."""
        return Measured(
            {**self.parities, **other.parities},
            {**self.failures, **other.failures},
            {**self.accuracies, **other.accuracies},
            drops={**self.drops, **other.drops},
        )

    def agrees(self, variant: Variant) -> bool:
        """Whether the variant, or the graph it was built from, agrees with PyTorch within its limits."""
        parity = self.parities.get(variant.judged_name)
        return parity is not None and parity.passed


@dataclass(frozen=True)
class Meter:
    """Measures variants of one model; `on_step(title, done, total)` is never called while a clip is timed."""

    model: LoadedModel
    data: ExportData
    threads: int
    on_step: OnStep
    unpruned: LoadedModel | None = None
    """What the model was pruned from."""
    max_drop_points: float = 1.0
    """What the verdict on the loss against it is about."""

    def measure(self, variants: Sequence[Variant], *, with_latency: bool) -> Measured:
        """Parity of all, then accuracy and, if wanted, latency of those that agree with PyTorch."""
        runnable = [variant for variant in variants if variant.checked_by]
        parities, failures = self.parities(runnable)
        found = Measured(parities, failures)
        agreeing = [variant for variant in runnable if found.agrees(variant)]
        if not agreeing:
            return found
        accuracies, drops = self._accuracies(agreeing)
        found = Measured(parities, failures, accuracies, drops=drops)
        return self.timed(variants, found) if with_latency else found

    def timed(self, variants: Sequence[Variant], measured: Measured, refused: Collection[str] = ()) -> Measured:
        """`measured` with the latency of those of its variants that agree with PyTorch, and of PyTorch, in one run.

        Those `refused` by name are timed as well, but none of the others is compared with them.
        """
        agreeing = [variant for variant in variants if variant.checked_by and measured.agrees(variant)]
        return replace(measured, latencies=self._latencies(agreeing, refused)) if agreeing else measured

    def parities(self, variants: Sequence[Variant]) -> tuple[dict[str, Parity], dict[str, str]]:
        """Agreement with PyTorch by name, and why those that could not be run could not; all must have `checked_by`."""
        clips = self.data.parity.inputs
        reference = np.concatenate([_torch(self.model.module, clip) for clip in clips])
        parities, failures = {}, {}
        for done, variant in enumerate(variants, start=1):
            name, precision = variant.artifact.name, variant.artifact.precision
            try:
                with self._open(variant) as session:
                    logits = np.concatenate([session.run(clip).logits for clip in clips])
                parities[name] = compare_logits(reference, logits, precision, trained=self.model.trained)
            except (DeviceError, ModelError) as error:
                failures[name] = str(error)
            self.on_step("agreement with PyTorch", done, len(variants))
        return parities, failures

    def _accuracies(self, variants: Sequence[Variant]) -> tuple[dict[str, tuple[Accuracy, ...]], dict[str, PairedDrop]]:
        """Of PyTorch and of all variants, on the same clips; and what is lost against the unpruned model."""
        source = self.data.source
        if source is None:
            return {}, {}
        runs: dict[str, Callable[[Array], Array]] = {
            name: functools.partial(_torch, model.module) for name, model in self._references()
        }
        with contextlib.ExitStack() as stack:
            for variant in variants:
                runs[variant.artifact.name] = _runner(stack.enter_context(self._open(variant)))
            scores = collect_scores(runs, self.data.evaluation, self.model.clip, titled(self.on_step, "accuracy"))
        return {name: summarize(score, source) for name, score in scores.items()}, _drops(scores, self.max_drop_points)

    def _references(self) -> list[tuple[str, LoadedModel]]:
        return [(REFERENCE, self.model), *([(UNPRUNED, self.unpruned)] if self.unpruned else [])]

    def _latencies(self, variants: Sequence[Variant], refused: Collection[str]) -> dict[str, Latency]:
        clip, count = self.data.parity.inputs[0], len(variants) + 2
        latencies = time_variants(variants, self._open, clip, self.threads, titled(self.on_step, TIMED_STEP), refused)
        for name, model in self._references():
            latencies[name] = self._torch_latency(model, clip)
        self.on_step(TIMED_STEP, count, count)
        return latencies

    def _torch_latency(self, model: LoadedModel, clip: Array) -> Latency:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            run = functools.partial(_torch, model.module, clip)
            return measure_latency(run, _REFERENCE_PLAN, threads=self.threads)
        finally:
            torch.set_num_threads(before)

    def _open(self, variant: Variant) -> Session:
        return open_variant(variant, self.model.clip.input_shape, len(self.model.labels), self.threads)


def open_variant(variant: Variant, input_shape: tuple[int, ...], classes: int, threads: int) -> Session:
    """A session of the variant on this machine's CPU, by the backend that checks it; the caller closes it."""
    return Session(
        get_backend(str(variant.checked_by)),
        OpenRequest(
            graph=variant.checked_graph or variant.member("graph") or b"",
            kind=variant.artifact.kind,
            precision=variant.artifact.precision,
            input_shape=input_shape,
            output_size=classes,
            weights=variant.member("weights"),
            threads=threads,
            device="CPU",
            as_written=variant.checked_by not in variant.artifact.backends,
        ),
    )


def time_variants(
    variants: Sequence[Variant],
    open_one: Callable[[Variant], Session],
    clip: Array,
    threads: int,
    on_progress: OnProgress | None = None,
    refused: Collection[str] = (),
) -> dict[str, Latency]:
    """Latencies by name: a few runs of each, then enough of those near the best, in turns, so that drift meets all.

    The best is one that is not `refused`, where there is one: what cannot be chosen must not decide which others are
    timed with care. `on_progress` counts the variants, and two steps after them.
    """
    tell: OnProgress = on_progress or (lambda _done, _total: None)
    latencies = {}
    for done, variant in enumerate(variants):
        tell(done, len(variants) + 2)
        with open_one(variant) as session:
            run = functools.partial(session.run, clip)
            latencies[variant.artifact.name] = measure_latency(run, _SCREENING_PLAN, threads=threads)
    rivals = [latency.p50_ms for name, latency in latencies.items() if name not in refused]
    limit_ms = _NEAR * min(rivals or [latency.p50_ms for latency in latencies.values()])
    near = [variant for variant in variants if latencies[variant.artifact.name].p50_ms <= limit_ms]
    tell(len(variants), len(variants) + 2)
    with contextlib.ExitStack() as stack:
        sessions = {variant.artifact.name: stack.enter_context(open_one(variant)) for variant in near}
        runs = {name: functools.partial(session.run, clip) for name, session in sessions.items()}
        for name, latency in interleave(runs, _ROUNDS).items():
            latencies[name] = latency.model_copy(update={"threads": threads})
    tell(len(variants) + 1, len(variants) + 2)
    return latencies


def _torch(module: nn.Module, clip: Array) -> Array:
    with torch.no_grad():
        logits: Array = module(torch.from_numpy(clip)).float().numpy()
    return logits


def _drops(scores: Mapping[str, Scores], max_drop_points: float) -> dict[str, PairedDrop]:
    if UNPRUNED not in scores:
        return {}
    right = {}
    for name, score in scores.items():
        probabilities, labels = score.videos()
        right[name] = probabilities.argmax(axis=1) == labels
    return {
        name: compare_paired(right[UNPRUNED], own, max_drop_points) for name, own in right.items() if name != UNPRUNED
    }


def _runner(session: Session) -> Callable[[Array], Array]:
    return lambda clip: session.run(clip).logits
