"""Measuring candidates on this machine: parity with PyTorch, accuracy, and latency if the target is at hand."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgeact.bench import BenchPlan, collector_disabled, interleave, measure_latency
from edgeact.calibration.accuracy import BatchRun, Scores, collect_scores, summarize
from edgeact.calibration.paired_test import compare_paired
from edgeact.calibration.parity import compare_logits
from edgeact.errors import DeviceError, ModelError
from edgeact.export.build.data import ExportData
from edgeact.export.build.golden_clip import golden_of, with_golden_logits
from edgeact.export.build.state import Build, Context, Reference, ReferenceRole
from edgeact.export.candidates.candidate import Candidate
from edgeact.export.models.loading import LoadedModel
from edgeact.progress import TIMED_STEP, Callbacks, OnProgress
from edgeact.records import Latency
from edgeact.runtime import OpenRequest, Session, get_backend

__all__ = ["Meter", "meter_of", "open_candidate", "references_of", "time_candidates"]

Array = npt.NDArray[np.float32]
Run = Callable[[Array], Array]

_SCREENING_PLAN = BenchPlan(warmup_runs=3, warmup_s=0.2, min_runs=12, min_s=0.2, max_s=60.0)
_NEAR = 1.5  # a candidate this many times slower than the best in a dozen runs will not win in more runs
_ROUNDS = 100
_Measured = TypeVar("_Measured", Candidate, Reference)
_REFERENCE_PLAN = BenchPlan(warmup_runs=2, warmup_s=0.0, min_runs=10, min_s=0.5, max_s=60.0)


@dataclass(frozen=True)
class Meter:
    """Measures candidates of one model; no callback is called while a clip is timed."""

    model: LoadedModel
    data: ExportData
    threads: int
    callbacks: Callbacks = field(default_factory=Callbacks)
    max_drop_points: float = 1.0
    """Accuracy budget that the verdict on a drop against the unpruned model is about."""
    golden_clip: Array | None = None
    """Network input of the golden clip, float32 `(1, 3, T, H, W)`; None: its logits are not needed."""

    def score(
        self, compared: Sequence[Candidate], references: Sequence[Reference]
    ) -> tuple[tuple[Candidate, ...], tuple[Reference, ...]]:
        """Return the accuracy of the references and of the compared candidates that agree with PyTorch."""
        agreeing = [candidate for candidate in compared if _is_timed(candidate)]
        scores = iter(self._scores(agreeing, references))
        measured = tuple(_with_score(reference, next(scores), self.data) for reference in references)
        unpruned = next((each for each in measured if each.name == "pytorch-unpruned"), None)
        with_drop = functools.partial(self._with_drop, unpruned=unpruned)
        scored = [_with_score(each, next(scores), self.data) if _is_timed(each) else each for each in compared]
        checked = [with_drop(candidate) for candidate in scored]
        return _relinked(checked), tuple(map(with_drop, measured))

    def compare(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Return the candidates with their parity, or why they do not run.

        Candidates that no backend of this machine executes are returned as they are.
        """
        clips = self.data.parity.inputs
        reference = self.reference_logits(clips)
        runnable = sum(candidate.checked_by is not None for candidate in candidates)
        on_progress = self.callbacks.step("parity with PyTorch")
        compared: list[Candidate] = []
        done = 0
        for candidate in candidates:
            if candidate.checked_by is not None:
                candidate = self._compared(candidate, reference)
                done += 1
                on_progress(done, runnable)
            compared.append(candidate)
        return _relinked(compared)

    def reference_logits(self, clips: Sequence[Array]) -> Array:
        """Return PyTorch's logits (clips, classes) of clips float32 `(1, 3, T, H, W)`."""
        return np.concatenate([_run_module(self.model.module, clip) for clip in clips])

    def time(
        self, candidates: Sequence[Candidate], references: Sequence[Reference], refused: Collection[str]
    ) -> tuple[tuple[Candidate, ...], tuple[Reference, ...]]:
        """Return the latencies of the candidates that agree with PyTorch, and of the references, from one run.

        Candidates `refused` by name are timed as well, but no other candidate is compared with them.
        """
        agreeing = [candidate for candidate in candidates if _is_timed(candidate)]
        if not agreeing:
            return tuple(candidates), tuple(references)
        clip, count = self.data.parity.inputs[0], len(agreeing) + 2
        on_progress = self.callbacks.step(TIMED_STEP)
        with collector_disabled():
            latencies = time_candidates(agreeing, self.open, clip, self.threads, on_progress, refused)
            measured = [replace(each, latency=self._module_latency(each.model, clip)) for each in references]
        in_turn = iter(latencies)
        timed = [replace(each, latency=next(in_turn) if _is_timed(each) else None) for each in candidates]
        on_progress(count, count)
        return _relinked(timed), tuple(measured)

    def open(self, candidate: Candidate) -> Session:
        """Open a session of the candidate on this machine's CPU; the caller closes it."""
        return open_candidate(candidate, self.model.clip.input_shape, len(self.model.labels), self.threads)

    def _compared(self, candidate: Candidate, reference: Array) -> Candidate:
        try:
            with self.open(candidate) as session:
                logits = np.concatenate([session.run(clip).logits for clip in self.data.parity.inputs])
                if self.golden_clip is not None:
                    candidate = with_golden_logits(candidate, session.run(self.golden_clip).logits[0])
        except (DeviceError, ModelError) as error:
            return replace(candidate, run_error=str(error))
        parity = compare_logits(reference, logits, candidate.precision, trained=self.model.trained)
        return replace(candidate, parity=parity)

    def _scores(self, candidates: Sequence[Candidate], references: Sequence[Reference]) -> list[Scores | None]:
        """Return the scores of the references, then of the candidates, on the same clips.

        They are None if the labels of the data are not the model's.
        """
        count = len(references) + len(candidates)
        if self.data.source is None or not count:
            return [None] * count
        modules = (reference.model.module for reference in references)
        runs: list[Run | BatchRun] = [BatchRun(functools.partial(_run_module, module)) for module in modules]
        with contextlib.ExitStack() as stack:
            runs += [_runner(stack.enter_context(self.open(candidate))) for candidate in candidates]
            numbered = {str(number): run for number, run in enumerate(runs)}
            on_progress = self.callbacks.step("accuracy")
            scores = collect_scores(numbered, self.data.evaluation, self.model.clip, on_progress)
        return [scores[number] for number in numbered]

    def _with_drop(self, measured: _Measured, unpruned: Reference | None) -> _Measured:
        if unpruned is None or measured.name == unpruned.name or not (unpruned.recognized and measured.recognized):
            return measured
        before, after = np.array(unpruned.recognized), np.array(measured.recognized)
        return replace(measured, drop=compare_paired(before, after, self.max_drop_points))

    def _module_latency(self, model: LoadedModel, clip: Array) -> Latency:
        with _torch_threads(self.threads):
            run = functools.partial(_run_module, model.module, clip)
            return measure_latency(run, _REFERENCE_PLAN, threads=self.threads)


def meter_of(build: Build, context: Context) -> Meter:
    """Return the meter of a build's model and data; without videos it records no logits of a golden clip."""
    threads = build.recipe.threads or torch.get_num_threads()
    data, max_drop = build.inputs.data, build.recipe.max_drop_points
    golden_clip = golden_of(build, context).inputs if data.parity.items else None
    return Meter(build.model, data, threads, context.callbacks, max_drop, golden_clip)


def references_of(build: Build) -> tuple[Reference, ...]:
    """Return the PyTorch models that the candidates of a build are compared with."""
    converted = build.converted
    references = [Reference("pytorch", converted.model, "parity")]
    if converted.unpruned is not None:
        role: ReferenceRole = "accuracy" if converted.drop_counts_from_unpruned else "unpruned"
        references.append(Reference("pytorch-unpruned", converted.unpruned, role))
    return tuple(references)


def open_candidate(candidate: Candidate, input_shape: tuple[int, ...], classes: int, threads: int) -> Session:
    """Open a session of the candidate on this machine's CPU, by the backend that checks it; the caller closes it."""
    return Session(
        get_backend(str(candidate.checked_by)),
        OpenRequest(
            graph=candidate.checked_graph or candidate.member("graph") or b"",
            kind=candidate.artifact.kind,
            precision=candidate.precision,
            input_shape=input_shape,
            output_size=classes,
            weights=candidate.member("weights"),
            threads=threads,
            device="CPU",
            as_written=candidate.checked_by not in candidate.artifact.backends,
        ),
    )


def time_candidates(
    candidates: Sequence[Candidate],
    open_session: Callable[[Candidate], Session],
    clip: Array,
    threads: int,
    on_progress: OnProgress | None = None,
    refused: Collection[str] = (),
) -> list[Latency]:
    """Return the latency of each candidate on `clip`, float32 `(1, 3, T, H, W)`.

    All are screened in a dozen runs; those near the fastest that is not `refused` are then timed in turns, so that a
    drift of the machine's speed concerns all alike. `on_progress` is not called while a clip is timed.
    """
    report = on_progress or (lambda _done, _total: None)
    latencies: list[Latency] = []
    for done, candidate in enumerate(candidates):
        report(done, len(candidates) + 2)
        with open_session(candidate) as session:
            run = functools.partial(session.run, clip)
            latencies.append(measure_latency(run, _SCREENING_PLAN, threads=threads))
    report(len(candidates), len(candidates) + 2)
    near = _near(candidates, latencies, refused)
    with contextlib.ExitStack() as stack:
        sessions = {index: stack.enter_context(open_session(candidates[index])) for index in near}
        runs = {str(index): functools.partial(session.run, clip) for index, session in sessions.items()}
        for key, latency in interleave(runs, _ROUNDS).items():
            latencies[int(key)] = latency.model_copy(update={"threads": threads})
    report(len(candidates) + 1, len(candidates) + 2)
    return latencies


@contextlib.contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """Give PyTorch `threads` threads until the context ends."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_timed(candidate: Candidate) -> bool:
    """Return whether the candidate's latency is measured: this machine runs it, and it agrees with PyTorch."""
    return candidate.checked_by is not None and candidate.agrees


def _relinked(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates with each engine's graph as it was measured."""
    return tuple(candidate.compiled_from_measured(candidates) for candidate in candidates)


def _with_score(measured: _Measured, score: Scores | None, data: ExportData) -> _Measured:
    """Return a candidate or reference with its accuracy, if it has scores."""
    if score is None or data.source is None:
        return measured
    probabilities, labels = score.videos()
    recognized = tuple(bool(right) for right in probabilities.argmax(axis=1) == labels)
    return replace(measured, accuracy=summarize(score, data.source), recognized=recognized)


def _near(candidates: Sequence[Candidate], latencies: Sequence[Latency], refused: Collection[str]) -> list[int]:
    """Return the indices of the candidates that may be the fastest."""
    medians = [latency.p50_ms for latency in latencies]
    rivals = [median for candidate, median in zip(candidates, medians, strict=True) if candidate.name not in refused]
    limit_ms = _NEAR * min(rivals or medians)
    return [index for index, median in enumerate(medians) if median <= limit_ms]


def _run_module(module: nn.Module, clip: Array) -> Array:
    with torch.no_grad():
        logits: Array = module(torch.from_numpy(clip)).float().numpy()
    return logits


def _runner(session: Session) -> Run:
    return lambda clip: session.run(clip).logits
