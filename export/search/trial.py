"""One trial, in two parts: everything but time, which any machine can do, and the timing, which a machine does alone.

Both are plain functions of what travels with them, so that any `concurrent.futures.Executor` can run them, twice if
need be: nothing is written but the caches.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from edgeact.calibration.accuracy import collect_scores
from edgeact.devices import is_at_hand, load_profile, probe_machine
from edgeact.errors import CalibrationError, ConversionError, DeviceError, ModelError
from edgeact.export.build.measure import Meter, open_variant, time_variants
from edgeact.export.build.targets import VARIANTS
from edgeact.export.candidates.candidate import Sources, Variant
from edgeact.export.graph.torch_to_onnx import to_onnx
from edgeact.export.models.checkpoint import state_sha256
from edgeact.export.models.cost import measure_cost
from edgeact.export.models.loading import LoadedModel
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.tuning import Study
from edgeact.export.search.candidate import Candidate, build
from edgeact.export.search.estimate import estimate_ms
from edgeact.export.search.job import Loaded, SearchJob, loaded, right_of
from edgeact.export.search.locks import MachineLock
from edgeact.export.search.outcome import Outcome
from edgeact.export.search.space import Config, Space
from edgeact.records import Precision
from edgeact.runtime import Session

__all__ = ["Prepared", "Task", "prepare", "time_it"]

Array = npt.NDArray[np.float32]

_RANGE_CLIPS = 24


@dataclass(frozen=True)
class Task:
    """What a trial is told."""

    job: SearchJob
    space: Space
    config: Config


@dataclass(frozen=True)
class Prepared:
    """A trial with everything known but its latency, ready to be timed on another machine."""

    outcome: Outcome
    """Where there are variants to time: all of the outcome but which of them it is."""
    variants: tuple[Variant, ...] = ()
    """Those that agree with PyTorch; none where latency is estimated, or the trial failed."""
    right: tuple[tuple[bool, ...], ...] = ()
    """Of each variant, by video."""
    clip: Array | None = None
    """To time on."""
    classes: int = 0


def prepare(task: Task) -> Prepared:
    """Build the configuration, compare its variants with PyTorch and count their accuracy.

    What a configuration cannot do is an outcome with a failure; what is wrong with the data, the weights or the
    machine, and so with every trial, is raised.
    """
    with MachineLock().working(), tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(task.job.threads)
        loaded(task.job, task.config.clip)  # what is wrong with that is wrong for every trial
        try:
            candidate = build(task.job, task.space, task.config, Path(folder) / "weights.safetensors")
            variants = _agreeing(task, candidate)
        except (CalibrationError, ConversionError, ModelError) as error:
            return Prepared(Outcome(failure=str(error)))
        return _counted(task, candidate, variants)


def time_it(task: Task, prepared: Prepared) -> Outcome:
    """Time what `prepare` made, alone on this machine, and keep the fastest.

    Raises DeviceError where this machine is not the target's.
    """
    if not prepared.variants or prepared.clip is None:
        return prepared.outcome
    if not is_at_hand(profile := load_profile(task.job.target)):
        raise DeviceError(f"this machine is no {profile.title}: time trials for it on one")
    open_one = functools.partial(
        open_variant, input_shape=prepared.clip.shape, classes=prepared.classes, threads=task.job.threads
    )
    with MachineLock().timing():
        latencies = time_variants(prepared.variants, open_one, prepared.clip, task.job.threads)
    fastest = min(range(len(prepared.variants)), key=lambda i: latencies[prepared.variants[i].artifact.name].p50_ms)
    variant = prepared.variants[fastest]
    return prepared.outcome.model_copy(
        update={
            **_facts(variant),
            "latency": latencies[variant.artifact.name].model_copy(update={"samples_ms": ()}),
            "machine": probe_machine(),
            "right": prepared.right[fastest],
        }
    )


def _agreeing(task: Task, candidate: Candidate) -> list[Variant]:
    """The variants that this machine can run, and that agree with the candidate's PyTorch.

    Only those of the backend that the target prefers: an export looks at the others too, a search need not each time.
    """
    able = [variant for variant in _variants(task, candidate) if variant.checked_by]
    order = candidate.base.profile.backends
    best = min((order.index(one.artifact.backends[0]) for one in able if one.artifact.backends[0] in order), default=0)
    variants = [variant for variant in able if order[best] == variant.artifact.backends[0]]
    meter = Meter(candidate.model, candidate.base.data, task.job.threads, lambda _title, _done, _total: None)
    parities, failures = meter.parities(variants)
    agreeing = [one for one in variants if one.artifact.name in parities and parities[one.artifact.name].passed]
    if not agreeing:
        told = [f"{name} does not run: {reason}" for name, reason in failures.items()]
        told += [f"{name} does not agree with PyTorch" for name in parities]
        raise ConversionError("; ".join(told) or "no artifact of it can be compared with PyTorch here")
    return agreeing


def _variants(task: Task, candidate: Candidate) -> list[Variant]:
    model, data, profile = candidate.model, candidate.base.data, candidate.base.profile
    master = to_onnx(model.module, model.clip)
    int8 = task.config.int8
    kept = {group.name: group.modules for group in task.space.groups if group.name not in int8}
    sources = Sources(
        master=master,
        clip=model.clip,
        profile=profile,
        samples=data.calibration.inputs[:_RANGE_CLIPS],
        calibration=Calibrator(master, data.calibration.inputs) if int8 else None,
        precisions=("int8",) if int8 else ("fp16",),
        on_step=lambda _title: None,
        float_modules=tuple(module for modules in kept.values() for module in modules) if int8 else (),
        study=Study(),  # bias correction, as in an export
    )
    return VARIANTS[profile.family](sources)


def _counted(task: Task, candidate: Candidate, variants: list[Variant]) -> Prepared:
    """Accuracy of all variants, and what they cost; where latency is estimated, that of the best estimate alone."""
    base, model = candidate.base, candidate.model
    cost = measure_cost(model.module, model.clip.input_shape)
    estimates = {} if base.is_timed else {one.artifact.name: _estimate(task, base, model, one) for one in variants}
    if estimates:
        variants = [min(variants, key=lambda one: estimates[one.artifact.name])]
    right = _right(task, candidate, variants)
    outcome = Outcome(
        parameters=cost.parameters,
        macs=cost.macs,
        weights_sha256=state_sha256(model.module),
        artifacts_sha256={variant.artifact.name: variant.sha256 for variant in variants},
    )
    if not estimates:
        clip = base.data.parity.inputs[0]
        return Prepared(outcome, tuple(variants), right, clip, len(model.labels))
    (variant,) = variants
    known = {**_facts(variant), "right": right[0], "latency_estimate_ms": estimates[variant.artifact.name]}
    return Prepared(outcome.model_copy(update=known))


def _right(task: Task, candidate: Candidate, variants: list[Variant]) -> tuple[tuple[bool, ...], ...]:
    model, data = candidate.model, candidate.base.data
    shape, classes, threads = model.clip.input_shape, len(model.labels), task.job.threads
    sessions = [open_variant(variant, shape, classes, threads) for variant in variants]
    try:
        runs: dict[str, Callable[[Array], Array]] = {
            variant.artifact.name: functools.partial(_logits, session)
            for variant, session in zip(variants, sessions, strict=True)
        }
        scores = collect_scores(runs, data.evaluation, model.clip)
    finally:
        for session in sessions:
            session.close()
    return tuple(right_of(scores[variant.artifact.name]) for variant in variants)


def _logits(session: Session, clip: Array) -> Array:
    return session.run(clip).logits


def _estimate(task: Task, base: Loaded, model: LoadedModel, variant: Variant) -> float:
    int8 = [group for group in task.space.groups if group.name in task.config.int8]

    def precision_of(layer: str) -> Precision:
        if variant.artifact.precision != "int8":
            return variant.artifact.precision
        return "int8" if any(group.holds(layer) for group in int8) else "fp16"

    return estimate_ms(model.module, model.clip.input_shape, base.profile, precision_of)


def _facts(variant: Variant) -> dict[str, object]:
    artifact = variant.artifact
    return {
        "artifact": artifact.name,
        "precision": artifact.precision,
        "backend": artifact.backends[0],
        "size_bytes": variant.size_bytes,
    }
