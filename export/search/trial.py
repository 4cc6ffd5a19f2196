"""One trial in two parts: everything but timing, on any machine, and the timing, alone on a machine of the target.

Both are plain functions of picklable values, so that any `concurrent.futures.Executor` can run them, twice if need be:
nothing is written but caches.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from edgeact.devices import is_this_machine, load_profile, probe_machine
from edgeact.errors import CalibrationError, ConversionError, DeviceError, ModelError
from edgeact.export.build import Build, Recipe, build, through
from edgeact.export.build.measure import Meter, open_candidate, time_candidates
from edgeact.export.build.state import Reference
from edgeact.export.candidates.candidate import Candidate
from edgeact.export.models.checkpoint import state_sha256
from edgeact.export.search.estimate import estimate_ms
from edgeact.export.search.locks import MachineLock
from edgeact.export.search.outcome import Outcome
from edgeact.export.search.recipes import unpruned
from edgeact.phrases import phrase
from edgeact.precision import Precision
from edgeact.progress import Callbacks
from edgeact.reasons import RunFailed

__all__ = ["Prepared", "prepare", "reference_recognized", "time_trial"]

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prepared:
    """A trial with everything known but the latency, ready to be timed on another machine."""

    outcome: Outcome
    """If there are candidates to time: everything but the choice among them."""
    candidates: tuple[Candidate, ...] = ()
    """Candidates that agree with PyTorch, with their accuracy; empty if latency is estimated or the trial failed."""
    clip: Array | None = None
    """Clip to time on, float32 `(1, 3, T, H, W)`."""
    classes: int = 0


def prepare(recipe: Recipe) -> Prepared:
    """Build a trial's recipe, compare the candidates with PyTorch and count their accuracy.

    What a configuration cannot do is an outcome with a failure; errors of the data, the weights or the machine, which
    concern every trial, are raised.
    """
    with MachineLock().working(), tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(_threads(recipe))
        base = unpruned(recipe)
        try:
            built = build(replace(base, recipe=recipe), through("emit"), out=Path(folder) / "trial.edgeact")
            candidates = _agreeing(built)
        except (CalibrationError, ConversionError, ModelError) as error:
            return Prepared(Outcome(failure=str(error)))
        return _counted(built, candidates)


def time_trial(recipe: Recipe, prepared: Prepared) -> Outcome:
    """Time the candidates of `prepare`, alone on this machine, and keep the fastest.

    Raises DeviceError if this machine is not the target.
    """
    if not prepared.candidates or prepared.clip is None:
        return prepared.outcome
    if not is_this_machine(profile := load_profile(recipe.target)):
        raise DeviceError(f"this machine is no {profile.title}: time trials for it on one")
    threads = _threads(recipe)
    open_session = functools.partial(
        open_candidate, input_shape=prepared.clip.shape, classes=prepared.classes, threads=threads
    )
    with MachineLock().timing():
        latencies = time_candidates(prepared.candidates, open_session, prepared.clip, threads)
    fastest = min(range(len(latencies)), key=lambda index: latencies[index].p50_ms)
    latency = latencies[fastest].model_copy(update={"samples_ms": ()})
    facts = {**_facts(prepared.candidates[fastest]), "latency": latency, "machine": probe_machine()}
    return prepared.outcome.model_copy(update=facts)


def reference_recognized(recipe: Recipe, callbacks: Callbacks) -> tuple[bool, ...]:
    """Return whether PyTorch FP32 of the unpruned model classifies each evaluation video correctly."""
    built = unpruned(recipe)
    meter = Meter(built.inputs.model, built.inputs.data, _threads(recipe), callbacks)
    _, (reference,) = meter.score((), [Reference("pytorch", built.inputs.model, "parity")])
    return reference.recognized


def _threads(recipe: Recipe) -> int:
    return recipe.threads or 1


def _agreeing(built: Build) -> tuple[Candidate, ...]:
    """Return the candidates of the target's preferred backend that this machine runs and that agree with PyTorch.

    An export looks at the other backends too; a search need not in each trial.
    """
    able = [candidate for candidate in built.candidates if candidate.checked_by]
    order = built.inputs.profile.backends
    known = [order.index(backend) for candidate in able if (backend := candidate.artifact.backends[0]) in order]
    preferred = order[min(known, default=0)]
    wanted = [candidate for candidate in able if candidate.artifact.backends[0] == preferred]
    compared = _meter(built).compare(wanted)
    agreeing = tuple(candidate for candidate in compared if candidate.agrees)
    if not agreeing:
        raise ConversionError("; ".join(_failures(compared)) or "no artifact can be compared with PyTorch here")
    return agreeing


def _failures(compared: Sequence[Candidate]) -> list[str]:
    return [
        f"{candidate.name} {phrase(RunFailed(error=candidate.run_error))}"
        if candidate.run_error
        else f"{candidate.name} does not agree with PyTorch"
        for candidate in compared
    ]


def _counted(built: Build, candidates: tuple[Candidate, ...]) -> Prepared:
    """Count the accuracy of all candidates; if latency is estimated, of the candidate with the best estimate alone."""
    estimate = functools.partial(_estimate_ms, built)
    if not built.can_time:
        candidates = (min(candidates, key=estimate),)
    scored, _ = _meter(built).score(candidates, ())
    outcome = Outcome(
        parameters=built.lowered.cost.parameters,
        macs=built.lowered.cost.macs,
        weights_sha256=state_sha256(built.model.module),
        artifacts_sha256={candidate.name: candidate.sha256 for candidate in scored},
    )
    if built.can_time:
        return Prepared(outcome, scored, built.inputs.data.parity.inputs[0], len(built.model.labels))
    (best,) = scored
    return Prepared(outcome.model_copy(update={**_facts(best), "latency_estimate_ms": estimate(best)}))


def _meter(built: Build) -> Meter:
    return Meter(built.model, built.inputs.data, _threads(built.recipe))


def _estimate_ms(built: Build, candidate: Candidate) -> float:
    kept = built.recipe.float_modules

    def precision_of(layer: str) -> Precision:
        if candidate.precision != "int8":
            return candidate.precision
        in_float = any(layer == module or layer.startswith(f"{module}.") for module in kept)
        return "fp16" if in_float else "int8"

    return estimate_ms(built.model.module, built.model.clip.input_shape, built.inputs.profile, precision_of)


def _facts(candidate: Candidate) -> dict[str, object]:
    return {
        "artifact": candidate.name,
        "precision": candidate.precision,
        "backend": candidate.artifact.backends[0],
        "size_bytes": candidate.size_bytes,
        "right": candidate.recognized,
    }
