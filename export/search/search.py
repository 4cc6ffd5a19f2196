"""The search: asks the study for configurations, builds and times them as trials, and stores the outcomes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeact.calibration.datasets import LOADING_STEP, absolute_spec, load_dataset
from edgeact.devices import load_profile, probe_machine
from edgeact.errors import DatasetError, DeviceError, EdgeactError, UsageError
from edgeact.executors import Executors, workers_died
from edgeact.export.build import Build, Recipe
from edgeact.export.build.data import DEFAULT_DATA
from edgeact.export.quantize.qdq import check_clips
from edgeact.export.search.locks import MachineLock
from edgeact.export.search.outcome import Outcome
from edgeact.export.search.recipes import trial_recipe, unpruned, why_refused
from edgeact.export.search.space import ClipSize, Space, groups_of, prunable
from edgeact.export.search.study import Asked, Budgets, Study, open_study
from edgeact.export.search.trial import Prepared, prepare, reference_recognized, time_trial
from edgeact.export.search.verdicts import Judge, recipe_of
from edgeact.progress import Callbacks
from edgeact.records import Machine, SearchRecord, SearchTrial
from edgeact.storage import write_text

__all__ = ["SearchRequest", "TrialFinished", "search"]

_POLL_S = 0.5
_LEAST_FRAMES = 4
_SIZE_STEP = 16


@dataclass(frozen=True)
class SearchRequest:
    """What to search, within which budgets, and the files to keep it in."""

    recipe: Recipe
    """Model, data, target and threads; the search chooses pruning, precision and clip size of each trial."""
    study: Path
    out: Path
    finetune_epochs: int = 1
    """Epochs of fine-tuning of each pruned model before it is measured; 0: no fine-tuning."""
    trials: int = 30
    """Finished trials in all, including those of earlier calls."""
    budgets: Budgets = field(default_factory=Budgets)
    clip_frames: tuple[int, ...] | None = None
    """Clip lengths to try besides the model's; None: half of it."""
    sizes: tuple[int, ...] | None = None
    """Edges of the crop to try besides the model's, pixels; None: three quarters of it."""


@dataclass(frozen=True)
class TrialFinished:
    """Event: a trial is finished and stored."""

    record: SearchRecord
    """All finished trials, including this trial."""
    trial: SearchTrial


def search(request: SearchRequest, executors: Executors, callbacks: Callbacks | None = None) -> SearchRecord:
    """Search until the requested trials are finished, here or in other processes on the same study; write the record.

    A search that was killed at any moment continues when it is called again: finished trials stay as they are, those
    that were running are run again. Raises UsageError for a study of another search, for random weights and for an
    unknown target; DatasetError if the labels of the data are not the model's; DeviceError on a machine other than that
    of the earlier trials; and what `prepare` raises. The record and all finished trials are kept in every case.
    """
    callbacks = callbacks or Callbacks()
    _check(request)
    callbacks.begin("loading the model and the data")
    with MachineLock().working():  # not longer: waiting for the study's lock must not keep others from timing
        given = _absolute(request.recipe)
        _check_data(given, request.finetune_epochs, callbacks)
        base = unpruned(given)
        callbacks.begin("tracing the channels that can be pruned")
        space = _space(request, base, callbacks)
    shared = recipe_of(base, space, request.finetune_epochs)
    target, clips = base.inputs.profile.id, [clip.name for clip in space.clips]
    binding = {**shared.model_dump(mode="json", exclude={"weights"}), "target": target, "clips": clips}
    with open_study(request.study, binding, space) as study:
        reference = tuple(map(bool, study.note("reference", lambda: _reference(base.recipe, callbacks))))
        judge = Judge(shared, space, base, reference, request.budgets, request.trials)
        run = _Run(request, target, study, judge, callbacks)
        if base.can_time and executors.is_local:
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
    load_profile(request.recipe.target)


def _absolute(recipe: Recipe) -> Recipe:
    """Return the recipe with absolute paths, for processes that run in other folders and for the record."""
    weights, spec = recipe.load.weights, recipe.data.spec
    return replace(
        recipe,
        load=replace(recipe.load, weights=weights.absolute() if weights else None),
        data=replace(recipe.data, spec=absolute_spec(spec) if spec else spec),
    )


def _check_data(recipe: Recipe, finetune_epochs: int, callbacks: Callbacks) -> None:
    dataset = load_dataset(recipe.data.spec or DEFAULT_DATA, callbacks.step(LOADING_STEP))
    if finetune_epochs and not dataset.splits.get("train"):
        raise DatasetError(
            f"'{dataset.name}' has no 'train' split to fine-tune pruned models on, only {', '.join(dataset.splits)}; "
            "give data with one, or --epochs 0"
        )


def _reference(recipe: Recipe, callbacks: Callbacks) -> tuple[bool, ...]:
    with MachineLock().working():
        return reference_recognized(recipe, callbacks)


def _space(request: SearchRequest, base: Build, callbacks: Callbacks) -> Space:
    profile, model, calibration = base.inputs.profile, base.inputs.model, base.inputs.data.calibration
    if profile.supports_int8:
        check_clips(len(calibration), calibration.classes, accept_poor=base.recipe.data.accept_poor)
    else:
        callbacks.on_note(f"no INT8 in this search: {profile.title} has none")
    groups = groups_of(model.module)
    patterns, multiple = prunable(model.module, model.clip.input_shape, groups, profile.channel_multiple_int8 or 1)
    if not patterns:
        callbacks.on_note("no pruning in this search: no layer of the model can be pruned")
    return Space(
        groups=groups,
        prunable=patterns,
        channel_multiple=multiple,
        int8=profile.supports_int8,
        clips=_clips(request, base, callbacks),
    )


def _clips(request: SearchRequest, base: Build, callbacks: Callbacks) -> tuple[ClipSize, ...]:
    """Return the clip sizes to try, the model's first, then those that it runs with."""
    clip = base.inputs.model.clip
    default = ClipSize(clip_frames=clip.clip_frames, size=clip.crop[0])
    half, smaller = default.clip_frames // 2, default.size * 3 // 4 // _SIZE_STEP * _SIZE_STEP
    frames = request.clip_frames if request.clip_frames is not None else (half,) if half >= _LEAST_FRAMES else ()
    sizes = request.sizes if request.sizes is not None else (smaller,) if smaller else ()
    if clip.crop[0] != clip.crop[1]:
        sizes = ()
    wanted = [
        ClipSize(clip_frames=length, size=size)
        for length in dict.fromkeys((default.clip_frames, *frames))
        for size in dict.fromkeys((default.size, *sizes))
    ]
    accepted = [default]
    for size in wanted[1:]:
        if reason := why_refused(base.recipe, size):
            callbacks.on_note(f"clips of {size.name} are not tried: {reason}")
        else:
            accepted.append(size)
    return tuple(accepted)


@dataclass(frozen=True)
class _Flight:
    """A running trial: being prepared or, with what that made, being timed."""

    asked: Asked
    recipe: Recipe
    prepared: Prepared | None = None


_Future = Future["Prepared | Outcome"]


@dataclass(frozen=True)
class _Run:
    request: SearchRequest
    target: str
    study: Study
    judge: Judge
    callbacks: Callbacks

    def until_done(self, executors: Executors) -> SearchRecord:
        """Keep the executors busy until no trial is left to run anywhere."""
        flights: dict[_Future, _Flight] = {}
        while True:
            while len(flights) < executors.slots and (asked := self.study.ask(self.request.trials)):
                config = self.judge.space.config(asked.params)
                recipe = trial_recipe(self.judge.recipe, self.target, config)
                self.callbacks.begin(f"trial {asked.number}: {config.summary}")
                flights[_submit(executors.work, prepare, recipe)] = _Flight(asked, recipe)
            if flights:
                done, _ = wait(flights, return_when=FIRST_COMPLETED)
                for future in done:
                    self._advance(flights, future, executors)
            elif len(self.study.outcomes()) < self.request.trials and self.study.is_waited_for:
                self.callbacks.begin("waiting for another process's trials")
                time.sleep(_POLL_S)
            else:
                return self._write()

    def _advance(self, flights: dict[_Future, _Flight], future: _Future, executors: Executors) -> None:
        """Time what has been prepared, store what has been timed."""
        flight = flights.pop(future)
        result = _result(future)
        if isinstance(result, Prepared) and result.candidates:
            timing = _submit(executors.timing, time_trial, flight.recipe, result)
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
        """Write the record, after each trial, so that a search that was killed has its report as well."""
        outcomes = self.study.outcomes()
        configs = {number: self.judge.space.config(self.study.params(number)) for number in outcomes}
        record = self.judge.record(outcomes, configs)
        write_text(self.request.out, record.model_dump_json(indent=1) + "\n")
        return record

    def check_machine(self, machine: Machine) -> None:
        """Raise DeviceError if earlier trials were timed on another kind of machine."""
        first = self.study.note("machine", lambda: [machine.fingerprint, machine.processor, machine.cores])
        if first[0] != machine.fingerprint:
            raise DeviceError(
                f"latencies of two kinds of machines cannot be compared: the study was begun on {first[1]}, "
                f"{first[2]} cores, this one is {machine.processor}, {machine.cores} cores; go on there, or begin "
                "another --study"
            )


def _submit(executor: Executor, task: Callable[..., Prepared | Outcome], *values: object) -> _Future:
    return executor.submit(task, *values)


def _result(future: _Future) -> Prepared | Outcome:
    """Return the result of a task; a task that kills the workers that run it is a failed trial, not the end."""
    try:
        return future.result()
    except EdgeactError:
        raise
    except (BrokenExecutor, CancelledError) as error:
        raise DeviceError(
            f"the executor broke down ({type(error).__name__}); finished trials are kept: start the search again"
        ) from error
    except Exception as error:
        if not workers_died(error):
            raise
        return Outcome(failure=f"the workers that ran the trial died, several in a row: {error}")
