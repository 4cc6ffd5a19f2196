"""The search itself: asks the study what to try, has it tried, and tells the study what came of it."""

from __future__ import annotations

import math
import time
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeact.calibration.datasets import LOADING_STEP, absolute_spec, load_dataset
from edgeact.devices import load_profile, probe_machine
from edgeact.errors import DatasetError, DeviceError, EdgeactError, UsageError
from edgeact.executors import Executors
from edgeact.export.build.data import DEFAULT_DATA
from edgeact.export.quantize.qdq import check_clips
from edgeact.export.search.job import Loaded, SearchJob, loaded, reference_right, why_refused
from edgeact.export.search.locks import MachineLock
from edgeact.export.search.outcome import Outcome
from edgeact.export.search.space import ClipSize, Space, groups_of, prunable
from edgeact.export.search.study import Asked, Budgets, Study, open_study
from edgeact.export.search.trial import Prepared, Task, prepare, time_it
from edgeact.export.search.verdicts import Judge, recipe_of
from edgeact.progress import Callbacks, titled
from edgeact.records import Machine, SearchRecord, SearchTrial
from edgeact.storage import write_text

__all__ = ["SearchRequest", "TrialFinished", "search"]

_POLL_S = 0.5
_LEAST_FRAMES = 4
_SIZE_STEP = 16


@dataclass(frozen=True)
class SearchRequest:
    """What to search for whom, within which budgets, and where to keep it."""

    job: SearchJob
    study: Path
    out: Path
    trials: int = 30
    """Finished ones in all, those of earlier calls among them."""
    budgets: Budgets = field(default_factory=Budgets)
    clip_frames: tuple[int, ...] | None = None
    """Lengths to try beside the model's own; None: half of it."""
    sizes: tuple[int, ...] | None = None
    """Edges of the crop to try beside the model's own, pixels; None: three quarters of it."""


@dataclass(frozen=True)
class TrialFinished:
    """Event: a trial is finished and stored."""

    record: SearchRecord
    """All finished trials, including this trial."""
    trial: SearchTrial


def search(request: SearchRequest, executors: Executors, callbacks: Callbacks | None = None) -> SearchRecord:
    """Search until so many trials are finished, here or in other processes on the same study; write the record.

    Killed at any moment and called again it goes on: finished trials stay as they are, those under way are run again.
    Raises UsageError for a study of another search, for random weights and for a target nothing is known of;
    DatasetError where the data's labels are not the model's; DeviceError for a machine that is not the one of the
    trials before; what `prepare` raises. The record and all finished trials are kept in every case.
    """
    callbacks = callbacks or Callbacks()
    _check(request)
    callbacks.begin("loading the model and the data")
    with MachineLock().working():  # not longer: who waits for the study's lock must not hold up who times
        travelling = _absolute(request.job)
        _load_data(travelling, callbacks)
        base = loaded(travelling)
        job = replace(travelling, weights_sha256=base.model.weights_sha256, data_digest=base.data_digest)
        callbacks.begin("looking at what can be pruned")
        space = _space(request, job, base, callbacks)
    recipe = recipe_of(job, space, base)
    clips = [clip.name for clip in space.clips]
    binding = {**recipe.model_dump(mode="json", exclude={"weights"}), "target": base.profile.id, "clips": clips}
    with open_study(request.study, binding, space) as study:
        reference = tuple(study.note("reference", lambda: _reference(job, callbacks)))
        judge = Judge(recipe, space, base, reference, request.budgets, request.trials)
        run = _Run(request, job, study, judge, callbacks)
        if base.is_timed and executors.is_local:
            run.check_machine(probe_machine())
        return run.until_done(executors)


def _check(request: SearchRequest) -> None:
    if request.trials < 1:
        raise UsageError(f"expected at least 1 trial, got {request.trials}")
    max_ms, max_drop = request.budgets.max_ms, request.budgets.max_drop_points
    if not (max_ms is None or 0 < max_ms < math.inf) or not 0 <= max_drop < math.inf:
        raise UsageError(f"expected --max-ms above 0 and --max-drop from 0, both finite, got {max_ms} and {max_drop}")
    for option, path in (("--out", request.out), ("--study", request.study)):
        if path.is_dir():
            raise UsageError(f"expected {option} with a file, '{path}' is a folder")
    load_profile(request.job.target)


def _absolute(job: SearchJob) -> SearchJob:
    """For processes that work in other folders, and for the record."""
    weights, spec = job.load.weights, job.data.spec
    return replace(
        job,
        load=replace(job.load, weights=weights.absolute() if weights else None),
        data=replace(job.data, spec=absolute_spec(spec) if spec else spec),
    )


def _load_data(job: SearchJob, callbacks: Callbacks) -> None:
    dataset = load_dataset(job.data.spec or DEFAULT_DATA, titled(callbacks.on_progress, LOADING_STEP))
    if job.finetune_epochs and not dataset.splits.get("train"):
        raise DatasetError(
            f"'{dataset.name}' has no 'train' split to fine-tune pruned models on; it has {', '.join(dataset.splits)}; "
            "give data with one, or --epochs 0"
        )


def _reference(job: SearchJob, callbacks: Callbacks) -> tuple[bool, ...]:
    with MachineLock().working():
        return reference_right(job, callbacks.on_progress)


def _space(request: SearchRequest, job: SearchJob, base: Loaded, callbacks: Callbacks) -> Space:
    profile, model = base.profile, base.model
    if profile.supports_int8:
        check_clips(len(base.data.calibration), base.data.calibration.classes, accept_poor=job.data.accept_poor)
    else:
        callbacks.on_note(f"no INT8 in this search: {profile.title} has none")
    groups = groups_of(model.module)
    found, multiple = prunable(model.module, model.clip.input_shape, groups, profile.channel_multiple_int8 or 1)
    if not found:
        callbacks.on_note("no pruning in this search: no layer of the model can be pruned")
    return Space(
        groups=groups,
        prunable=found,
        channel_multiple=multiple,
        int8=profile.supports_int8,
        clips=_clips(request, job, base, callbacks),
    )


def _clips(request: SearchRequest, job: SearchJob, base: Loaded, callbacks: Callbacks) -> tuple[ClipSize, ...]:
    """The model's own first, then those it runs with."""
    clip = base.model.clip
    own = ClipSize(clip_frames=clip.clip_frames, size=clip.crop[0])
    half, smaller = own.clip_frames // 2, own.size * 3 // 4 // _SIZE_STEP * _SIZE_STEP
    frames = request.clip_frames if request.clip_frames is not None else (half,) if half >= _LEAST_FRAMES else ()
    sizes = request.sizes if request.sizes is not None else (smaller,) if smaller else ()
    if clip.crop[0] != clip.crop[1]:
        sizes = ()
    wanted = [
        ClipSize(clip_frames=length, size=size)
        for length in dict.fromkeys((own.clip_frames, *frames))
        for size in dict.fromkeys((own.size, *sizes))
    ]
    accepted = [own]
    for size in wanted[1:]:
        if reason := why_refused(job, size):
            callbacks.on_note(f"clips of {size.name} are not tried: {reason}")
        else:
            accepted.append(size)
    return tuple(accepted)


@dataclass(frozen=True)
class _Flight:
    """A trial under way: being prepared, or, with what that came to, being timed."""

    asked: Asked
    task: Task
    prepared: Prepared | None = None


@dataclass(frozen=True)
class _Run:
    request: SearchRequest
    job: SearchJob
    study: Study
    judge: Judge
    callbacks: Callbacks

    def until_done(self, executors: Executors) -> SearchRecord:
        """Keep the executors busy until no trial is left to do anywhere."""
        flights: dict[Future[Any], _Flight] = {}
        while True:
            while len(flights) < executors.slots and (asked := self.study.ask(self.request.trials)):
                task = Task(self.job, self.judge.space, self.judge.space.config(asked.params))
                self.callbacks.begin(f"trial {asked.number}: {task.config.summary}")
                flights[executors.work.submit(prepare, task)] = _Flight(asked, task)
            if flights:
                done, _ = wait(flights, return_when=FIRST_COMPLETED)
                for future in done:
                    self._advance(flights, future, executors)
            elif len(self.study.outcomes()) < self.request.trials and self.study.is_waited_for:
                self.callbacks.begin("waiting for another process's trials")
                time.sleep(_POLL_S)
            else:
                return self._write()

    def _advance(self, flights: dict[Future[Any], _Flight], future: Future[Any], executors: Executors) -> None:
        """Time what has been prepared, store what has been timed."""
        flight = flights.pop(future)
        result = _result(future)
        if isinstance(result, Prepared) and result.variants:
            timing = executors.timing.submit(time_it, flight.task, result)
            flights[timing] = replace(flight, prepared=result)
            return
        self._finish(flight.asked, result.outcome if isinstance(result, Prepared) else result)

    def _finish(self, asked: Asked, outcome: Outcome) -> None:
        if outcome.machine:
            self.check_machine(outcome.machine)
        if not outcome.failure:
            outcome = outcome.model_copy(update={"drop_points": self.judge.drop(outcome).drop_points})
        self.study.finish(asked, outcome, self.request.budgets)
        record = self._write()
        if trial := record.trial(asked.number):
            self.callbacks.on_event(TrialFinished(record, trial))

    def _write(self) -> SearchRecord:
        """After every trial, so that a search that was killed has its report as well."""
        outcomes = self.study.outcomes()
        configs = {number: self.judge.space.config(self.study.params(number)) for number in outcomes}
        record = self.judge.record(outcomes, configs)
        write_text(self.request.out, record.model_dump_json(indent=1) + "\n")
        return record

    def check_machine(self, machine: Machine) -> None:
        """Raise DeviceError where trials before were timed on another kind of machine."""
        first = self.study.note("machine", lambda: [machine.fingerprint, machine.processor, machine.cores])
        if first[0] != machine.fingerprint:
            raise DeviceError(
                f"latencies of two kinds of machines cannot be compared: the study was begun on {first[1]}, "
                f"{first[2]} cores, this one is {machine.processor}, {machine.cores} cores; go on there, or begin "
                "another --study"
            )


def _result(future: Future[Any]) -> Prepared | Outcome:
    """What a task came to; a task that kills the workers that run it is a failed trial, not the end of the search."""
    try:
        result: Prepared | Outcome = future.result()
        return result
    except EdgeactError:
        raise
    except (BrokenExecutor, CancelledError) as error:
        raise DeviceError(
            f"the executor broke down ({type(error).__name__}); finished trials are kept: start the search again"
        ) from error
    except Exception as error:  # Dask's, which is no dependency here, has no base to know it by
        if type(error).__name__ != "KilledWorker":
            raise
        return Outcome(failure=f"the workers that ran it died, several in a row: {error}")
